package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"fmt"
	"math"
	"runtime"
)

// Status says what went wrong. Its values are errors to compare with: errors.Is(err, ErrNotFound).
type Status int32

// What can go wrong. The numbers are the library's and never change.
const (
	// ErrBadArgument: an argument is out of range, malformed or not UTF-8.
	ErrBadArgument Status = C.MLXRT_STATUS_BAD_ARGUMENT
	// ErrNotFound: a file or folder does not exist.
	ErrNotFound Status = C.MLXRT_STATUS_NOT_FOUND
	// ErrBadModel: a file of the model is broken; the message names it and what was expected.
	ErrBadModel Status = C.MLXRT_STATUS_BAD_MODEL
	// ErrUnsupported: the model is sound but of a kind that the library does not run, or the device
	// is missing, or the library does not fit this package.
	ErrUnsupported Status = C.MLXRT_STATUS_UNSUPPORTED
	// ErrContextFull: the prompt does not fit the model's context.
	ErrContextFull Status = C.MLXRT_STATUS_CONTEXT_FULL
	// ErrOutOfMemory: memory ran out, or the memory limit was reached.
	ErrOutOfMemory Status = C.MLXRT_STATUS_OUT_OF_MEMORY
	// ErrCancelled: the call was stopped. Calls with a context report the context's error instead.
	ErrCancelled Status = C.MLXRT_STATUS_CANCELLED
	// ErrClosed: the model is closed, or was closed during the call.
	ErrClosed Status = C.MLXRT_STATUS_CLOSED
	// ErrMLX: MLX reported an error.
	ErrMLX Status = C.MLXRT_STATUS_MLX
	// ErrInternal: a defect of the library, please report it. The process is safe.
	ErrInternal Status = C.MLXRT_STATUS_INTERNAL
	// ErrIO: the system refused to write or read a file that is no part of a model; the disk is full, say.
	ErrIO Status = C.MLXRT_STATUS_IO
	// ErrNetwork: a download failed. What arrived is gone on from where that is possible.
	ErrNetwork Status = C.MLXRT_STATUS_NETWORK
	// ErrBusy: as many requests wait for the model as may, or another operation uses the session.
	ErrBusy Status = C.MLXRT_STATUS_BUSY
)

const (
	statusOK             Status = C.MLXRT_STATUS_OK
	statusBufferTooSmall Status = C.MLXRT_STATUS_BUFFER_TOO_SMALL
)

// Error makes a Status an error.
func (s Status) Error() string { return "mlxrt: " + s.String() }

// String is the library's name of the status, such as "NOT_FOUND".
func (s Status) String() string { return C.GoString(C.mlxrt_status_name(C.int32_t(s))) }

// Error is a failed call.
type Error struct {
	Status  Status
	Message string // for people
}

// Error is the message.
func (e *Error) Error() string { return "mlxrt: " + e.Message }

// Unwrap lets errors.Is compare with a Status.
func (e *Error) Unwrap() error { return e.Status }

func badArgument(format string, args ...any) error {
	return &Error{ErrBadArgument, fmt.Sprintf(format, args...)}
}

// check calls into C and turns its status into an error. The message belongs to the thread of the
// failed call, so the goroutine stays on one thread in between.
func check(call func() C.mlxrt_status) error {
	if abiError != nil {
		return abiError
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if status := Status(call()); status != statusOK {
		return &Error{status, C.GoString(C.mlxrt_error_message())}
	}
	return nil
}

// statusError is the error of a status that comes without a message.
func statusError(status C.int32_t) error {
	if Status(status) == statusOK {
		return nil
	}
	return &Error{Status(status), Status(status).String()}
}

// toUint32 is for counts, which are int in Go.
func toUint32(name string, value int) (C.uint32_t, error) {
	if value < 0 || int64(value) > math.MaxUint32 {
		return 0, badArgument("%s is %d: expected 0 to %d", name, value, uint32(math.MaxUint32))
	}
	return C.uint32_t(value), nil
}

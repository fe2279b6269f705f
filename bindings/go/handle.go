package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// owned is a handle of C that belongs to one Go object. It is freed once: by close, or when the garbage
// collector finds the object forgotten.
type owned[H any] struct {
	handle  H
	what    string // for messages
	free    func(H)
	closed  atomic.Bool
	closing sync.Once
	cleanup runtime.Cleanup
}

// own gives the object, which contains `to`, its handle.
func own[O, H any](object *O, to *owned[H], what string, handle H, free func(H)) {
	to.handle, to.what, to.free = handle, what, free
	to.cleanup = runtime.AddCleanup(object, func(handle H) {
		go free(handle) // not to hold up other cleanups
	}, handle)
}

func (o *owned[H]) close() {
	o.closing.Do(func() {
		o.closed.Store(true)
		if o.free != nil { // else it was never opened
			o.cleanup.Stop()
			o.free(o.handle)
		}
	})
}

// use is check for a call that uses the handle.
func (o *owned[H]) use(call func(H) C.mlxrt_status) error {
	if err := o.ready(); err != nil {
		return err
	}
	return o.settle(check(func() C.mlxrt_status { return call(o.handle) }))
}

// ready says whether the handle may be used; settle is to follow.
func (o *owned[H]) ready() error {
	if o.closed.Load() {
		return &Error{ErrClosed, "the " + o.what + " is closed"}
	}
	return nil
}

// settle keeps the object until a call of C has returned, and finds out what its error means.
func (o *owned[H]) settle(err error) error {
	runtime.KeepAlive(o)
	if errors.Is(err, ErrBadArgument) {
		if closed := o.ready(); closed != nil {
			return closed // between ready and the call
		}
	}
	return err
}

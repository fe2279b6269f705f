package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"context"
	"errors"
	"sync"
)

// canceller passes the end of a context on to C.
type canceller struct {
	stop func() bool

	mu     sync.Mutex // the handle is not triggered after it was freed
	handle *C.mlxrt_cancel
}

// newCanceller makes a handle that is triggered when ctx ends. The caller closes it.
func newCanceller(ctx context.Context) (*canceller, error) {
	c := &canceller{}
	// A call without a handle need not look at it every few milliseconds.
	if ctx.Done() != nil {
		if err := check(func() C.mlxrt_status { return C.mlxrt_cancel_new(&c.handle) }); err != nil {
			return nil, err
		}
	}
	c.stop = context.AfterFunc(ctx, c.trigger)
	return c, nil
}

// contextError is the context's own error where its end is what ended a call.
func contextError(ctx context.Context, err error) error {
	if errors.Is(err, ErrCancelled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (c *canceller) trigger() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle != nil {
		C.mlxrt_cancel_trigger(c.handle) // fails only for a handle that was freed
	}
}

func (c *canceller) close() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	C.mlxrt_cancel_free(c.handle)
	c.handle = nil
}

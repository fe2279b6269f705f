package mlxrt

import "context"

// pump runs call, which blocks in C, on a goroutine of its own. What call sends is received one by
// one on the caller's goroutine: so a panic or runtime.Goexit in the user's code never passes
// through C, and the user's code never runs on the thread that C called back on.
//
// The context that call gets ends when ctx does and when receive returns false or panics; send then
// returns false. However pump ends, call has returned before.
func pump[T any](ctx context.Context, call func(ctx context.Context, send func(T) bool), receive func(T) bool) {
	ctx, cancel := context.WithCancel(ctx)
	values := make(chan T)
	send := func(value T) bool {
		if ctx.Err() != nil { // select would toss a coin
			return false
		}
		select {
		case values <- value:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(values)
		call(ctx, send)
	}()
	defer func() {
		cancel()
		for range values { // until the goroutine closes it
		}
	}()
	for value := range values {
		if !receive(value) {
			return
		}
	}
}

// Package mlxrt runs MLX language models through libmlxrt.
//
//	model, err := mlxrt.Load(ctx, "path/to/model")
//	if err != nil {
//		return err
//	}
//	defer model.Close()
//	for token := range model.Generate(ctx, "Once upon a time", mlxrt.WithMaxTokens(64)) {
//		fmt.Print(token.Text)
//	}
//	return model.Err()
//
// # Errors
//
// Every error of the library is an [*Error]: errors.Is compares it with [ErrNotFound], [ErrClosed]
// and the others, its text says what to do about it. A call that a context ended reports the
// context's own error, so errors.Is(err, context.Canceled) works as everywhere else.
//
// # Goroutines
//
// Everything may be called from any goroutine at any time. Goroutines that generate with one model
// at the same time share its steps (continuous batching): each step computes the next token of every
// answer. [Model.GenerateBatch] and [Model.Classify] do the same for many prompts of one goroutine.
// [Model.Err] and [Model.Metrics] tell of the operation
// that ended last, whoever started it, so goroutines that share a model use [Model.Stream], whose
// error and metrics are its own.
//
// # Memory
//
// Close a model when it is no longer used. The garbage collector closes a forgotten one, but it
// cannot see how large a model is and may take its time.
package mlxrt

package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"strings"
	"unsafe"
)

// BatchResult is the answer to one prompt of a batch.
type BatchResult struct {
	Result
	Tokens []Token // what came until the end, however that came about
	Err    error   // nil for an answer that came to its end, the context's error, or the library's
}

// Text is the whole answer.
func (r BatchResult) Text() string {
	var text strings.Builder
	for _, token := range r.Tokens {
		text.WriteString(token.Text)
	}
	return text.String()
}

// ClassifyResult is the next token behind a prompt.
type ClassifyResult struct {
	Token  Token     // the most likely one, its Logprob among the whole vocabulary
	Logits []float32 // those that WithLogits or WithLabels asked for, else nil
	Err    error     // nil, the context's error, or the library's
}

// GenerateBatch continues many prompts together and returns when all answers are complete, in the order
// of the prompts. A prompt that fails stops no other; the error is that of the first that failed and names
// it. When ctx ends, the results have what was generated until then. Where nothing was begun, because an
// option is wrong, say, there are no results.
func (m *Model) GenerateBatch(ctx context.Context, prompts []string, opts ...GenerateOption) ([]BatchResult, error) {
	config, err := batchConfig(opts)
	if err != nil {
		return nil, err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	options, err := cOptions(config, &pins)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	results := make([]BatchResult, len(prompts))
	figures := make([]C.mlxrt_generate_result, len(prompts))
	for i := range figures {
		figures[i] = newCResult()
		figures[i].status = -1 // until it is written
	}
	add := addToken(func(index int, token Token) {
		results[index].Tokens = append(results[index].Tokens, token)
	})
	err = m.batch(ctx, prompts, add, &pins, func(b batch) C.mlxrt_status {
		options.cancel = b.cancel
		return C.mlxrt_model_generate_batch(b.model, b.prompts, b.count, options,
			C.mlxrt_batch_callback(C.mlxrtGoBatchToken), b.userData, unsafe.SliceData(figures))
	})
	for i := range figures {
		if figures[i].status < 0 {
			return nil, err
		}
		results[i].Result = goResult(&figures[i])
		results[i].Err = statusError(figures[i].status)
	}
	settle(ctx, err, len(results), func(i int) *error { return &results[i].Err })
	return results, contextError(ctx, err)
}

// Classify finds the most likely next token behind each prompt, without generating: a prompt costs its
// prefill only. Results and errors are as for GenerateBatch. Of the options those apply that say how to
// read a prompt, WithLogits and WithLabels.
func (m *Model) Classify(ctx context.Context, prompts []string, opts ...GenerateOption) ([]ClassifyResult, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	config, err := batchConfig(opts)
	if err != nil {
		return nil, err
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	options := &C.mlxrt_classify_options{
		struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_classify_options{})),
		labels:      sliceData[C.int32_t](config.Labels),
		label_count: C.size_t(len(config.Labels)),
		all_logits:  boolInt(config.ReturnLogits),
		no_special:  boolInt(config.NoSpecial),
		plain_text:  boolInt(config.PlainText),
	}
	if options.labels != nil {
		pins.Pin(options.labels)
	}
	results := make([]ClassifyResult, 0, len(prompts))
	add := addClass(func(_ int, found ClassifyResult) { results = append(results, found) })
	err = m.batch(ctx, prompts, add, &pins, func(b batch) C.mlxrt_status {
		options.cancel = b.cancel
		return C.mlxrt_model_classify(b.model, b.prompts, b.count, options,
			C.mlxrt_classify_callback(C.mlxrtGoClassification), b.userData)
	})
	if len(results) < len(prompts) {
		return nil, err
	}
	settle(ctx, err, len(results), func(i int) *error { return &results[i].Err })
	return results, contextError(ctx, err)
}

func batchConfig(opts []GenerateOption) (GenerateConfig, error) {
	config := generateConfig(opts)
	if config.Session != nil {
		return config, badArgument("a session goes with one prompt, not with a batch")
	}
	return config, nil
}

// batch is what the two functions of C have in common.
type batch struct {
	model    *C.mlxrt_model
	prompts  *C.mlxrt_string
	count    C.size_t
	cancel   *C.mlxrt_cancel
	userData unsafe.Pointer
}

// batch calls with the prompts, a handle that is triggered when ctx ends, and what C calls back.
func (m *Model) batch(ctx context.Context, prompts []string, told any, pins *runtime.Pinner, call func(batch) C.mlxrt_status) error {
	cancel, err := newCanceller(ctx)
	if err != nil {
		return err
	}
	defer cancel.close()
	list := make([]C.mlxrt_string, len(prompts))
	for i, prompt := range prompts {
		list[i] = cString(prompt, pins)
	}
	handle := cgo.NewHandle(told)
	defer handle.Delete()
	return m.use(func(model *C.mlxrt_model) C.mlxrt_status {
		return call(batch{model, sliceData[C.mlxrt_string](list), C.size_t(len(list)), cancel.handle, unsafe.Pointer(&handle)})
	})
}

// settle gives the first prompt that failed the error of the call, which has the message, and the
// context's error to those that it ended.
func settle(ctx context.Context, err error, count int, errorOf func(int) *error) {
	for i := range count {
		at := errorOf(i)
		if *at == nil {
			continue
		}
		if err != nil {
			*at, err = err, nil
		}
		*at = contextError(ctx, *at)
	}
}

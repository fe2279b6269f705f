package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"runtime/cgo"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Model is a loaded model with its tokenizer. Any number of goroutines may use it at the same time.
type Model struct {
	handle  *C.mlxrt_model
	info    ModelInfo
	closed  atomic.Bool
	closing sync.Once
	cleanup runtime.Cleanup

	mu      sync.Mutex // guards the outcome of the operation that ended last
	lastErr error
	last    GenerateMetrics
}

// ModelInfo describes a model.
type ModelInfo struct {
	Architecture    string // model_type of config.json, such as "qwen3"
	VocabSize       int    // rows of the embedding table: token ids are below this
	NumLayers       int    // transformer layers
	HiddenSize      int    // width of the residual stream
	NumHeads        int    // query heads
	NumKVHeads      int    // key and value heads
	HeadDim         int    // width of a head
	ContextLen      int    // most tokens of prompt and answer together
	QuantBits       int    // bits of a quantised weight; 0: not quantised
	QuantGroup      int    // weights that share a scale; 0: not quantised
	QuantMode       QuantMode
	UnusedTensors   int    // in the files, but of no use to the model: a vision tower's, say
	Parameters      uint64 // counted before quantisation
	WeightBytes     uint64 // what the weights take in memory
	HasChatTemplate bool   // whether Chat works
	Device          Device
	DType           DType
}

// Load loads a model and returns when its weights are in memory. The path is a folder in the Hugging
// Face layout; where there is none, "org/name" or "org/name@revision" is looked for in the Hugging Face
// cache. When ctx ends first, loading stops with its error. Close the model after use.
func Load(ctx context.Context, path string, opts ...LoadOption) (*Model, error) {
	var config LoadConfig
	for _, opt := range opts {
		opt(&config)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var handle *C.mlxrt_model
	var err error
	// Should Progress panic, the model that may have been loaded meanwhile is not lost.
	returned := false
	defer func() {
		if !returned && handle != nil {
			C.mlxrt_model_free(handle)
		}
	}()
	pump(ctx, func(ctx context.Context, send func(progress) bool) {
		handle, err = load(ctx, path, config, send)
	}, func(p progress) bool {
		config.Progress(p.done, p.total)
		return true
	})
	returned = true
	if err != nil {
		return nil, contextError(ctx, err)
	}
	return newModel(handle)
}

func load(ctx context.Context, path string, config LoadConfig, send sendProgress) (*C.mlxrt_model, error) {
	cancel, err := newCanceller(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel.close()
	contextLen, err := toUint32("ContextLen", config.ContextLen)
	if err != nil {
		return nil, err
	}
	threads, err := toUint32("Threads", config.Threads)
	if err != nil {
		return nil, err
	}
	maxConcurrent, err := toUint32("MaxConcurrent", config.MaxConcurrent)
	if err != nil {
		return nil, err
	}
	maxQueue, err := toUint32("MaxQueue", config.MaxQueue)
	if err != nil {
		return nil, err
	}
	options := C.mlxrt_load_options{
		struct_size:    C.size_t(unsafe.Sizeof(C.mlxrt_load_options{})),
		device:         C.int32_t(config.Device),
		dtype:          C.int32_t(config.DType),
		context_length: contextLen,
		download:       boolInt(config.Download),
		no_mmap:        boolInt(config.NoMmap),
		exact:          boolInt(config.Exact),
		threads:        threads,
		max_concurrent: maxConcurrent,
		max_queue:      maxQueue,
		cancel:         cancel.handle,
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	if config.Progress != nil {
		told := cgo.NewHandle(send)
		defer told.Delete()
		pins.Pin(&told)
		options.progress = C.mlxrt_progress_callback(C.mlxrtGoProgress)
		options.user_data = unsafe.Pointer(&told)
	}
	var handle *C.mlxrt_model
	err = check(func() C.mlxrt_status {
		return C.mlxrt_model_load(stringData(path), C.size_t(len(path)), &options, &handle)
	})
	return handle, err
}

func newModel(handle *C.mlxrt_model) (*Model, error) {
	desc := C.mlxrt_model_desc{struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_model_desc{}))}
	if err := check(func() C.mlxrt_status { return C.mlxrt_model_info(handle, &desc) }); err != nil {
		C.mlxrt_model_free(handle)
		return nil, err
	}
	m := &Model{handle: handle, info: ModelInfo{
		Architecture:    C.GoString(desc.architecture),
		VocabSize:       int(desc.vocab_size),
		NumLayers:       int(desc.num_layers),
		HiddenSize:      int(desc.hidden_size),
		NumHeads:        int(desc.num_heads),
		NumKVHeads:      int(desc.num_kv_heads),
		HeadDim:         int(desc.head_dim),
		ContextLen:      int(desc.context_length),
		QuantBits:       int(desc.quant_bits),
		QuantGroup:      int(desc.quant_group),
		QuantMode:       QuantMode(desc.quant_mode),
		UnusedTensors:   int(desc.unused_tensors),
		Parameters:      uint64(desc.parameters),
		WeightBytes:     uint64(desc.weight_bytes),
		HasChatTemplate: desc.has_chat_template != 0,
		Device:          Device(desc.device),
		DType:           DType(desc.dtype),
	}}
	m.cleanup = runtime.AddCleanup(m, func(handle *C.mlxrt_model) {
		go func() { C.mlxrt_model_free(handle) }() // not to hold up other cleanups
	}, handle)
	return m, nil
}

// Close frees the model and returns when its memory is free. Calls that are using it on other
// goroutines end with ErrClosed, and so does every later one. It may be called more than once and
// always returns nil.
func (m *Model) Close() error {
	m.closing.Do(func() {
		m.closed.Store(true)
		m.cleanup.Stop()
		C.mlxrt_model_free(m.handle)
	})
	return nil
}

// use is check for a call that uses the model's handle.
func (m *Model) use(call func(*C.mlxrt_model) C.mlxrt_status) error {
	closed := &Error{ErrClosed, "the model is closed"}
	if m.closed.Load() {
		return closed
	}
	err := check(func() C.mlxrt_status { return call(m.handle) })
	runtime.KeepAlive(m) // or the garbage collector could free the model during the call
	if errors.Is(err, ErrBadArgument) && m.closed.Load() {
		return closed // it was closed between the two lines above
	}
	return err
}

// Info describes the model. It works after Close too.
func (m *Model) Info() ModelInfo { return m.info }

// ModelType is model_type of config.json, such as "qwen3".
func (m *Model) ModelType() string { return m.info.Architecture }

// Generate continues a prompt as it stands. Each range over the result generates anew; leaving the
// loop or ending ctx stops it at once. Afterwards Err tells why it ended.
func (m *Model) Generate(ctx context.Context, prompt string, opts ...GenerateOption) iter.Seq[Token] {
	return func(yield func(Token) bool) { m.Stream(ctx, prompt, opts...).Tokens()(yield) }
}

// Chat answers a conversation through the model's chat template, otherwise like Generate.
func (m *Model) Chat(ctx context.Context, messages []Message, opts ...GenerateOption) iter.Seq[Token] {
	return func(yield func(Token) bool) { m.StreamChat(ctx, messages, opts...).Tokens()(yield) }
}

// Err tells how the operation that ended last on this model ended: nil for an answer that came to
// its end and for a loop that was left early, the context's error, or the library's.
func (m *Model) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastErr
}

// Metrics tells what the operation that ended last on this model took.
func (m *Model) Metrics() GenerateMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

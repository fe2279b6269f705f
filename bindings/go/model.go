package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"iter"
	"runtime"
	"runtime/cgo"
	"sync"
	"unsafe"
)

// Model is a loaded model with its tokenizer. Any number of goroutines may use it at the same time.
type Model struct {
	owned[*C.mlxrt_model]
	info ModelInfo

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
	var pins runtime.Pinner
	defer pins.Unpin()
	options, err := cLoadOptions(config, &pins)
	if err != nil {
		return nil, err
	}
	options.cancel = cancel.handle
	if config.Progress != nil {
		told := cgo.NewHandle(send)
		defer told.Delete()
		pins.Pin(&told)
		options.progress = C.mlxrt_progress_callback(C.mlxrtGoProgress)
		options.user_data = unsafe.Pointer(&told)
	}
	var handle *C.mlxrt_model
	err = check(func() C.mlxrt_status {
		return C.mlxrt_model_load(stringData(path), C.size_t(len(path)), options, &handle)
	})
	return handle, err
}

func cLoadOptions(config LoadConfig, pins *runtime.Pinner) (*C.mlxrt_load_options, error) {
	folder := cString(config.PrefixCacheDir, pins)
	options := &C.mlxrt_load_options{
		struct_size:           C.size_t(unsafe.Sizeof(C.mlxrt_load_options{})),
		device:                C.int32_t(config.Device),
		dtype:                 C.int32_t(config.DType),
		download:              boolInt(config.Download),
		no_mmap:               boolInt(config.NoMmap),
		exact:                 boolInt(config.Exact),
		kv_budget_bytes:       C.uint64_t(config.KVBudget),
		prefix_cache_bytes:    C.uint64_t(config.PrefixCache),
		prefix_cache_path:     folder.data,
		prefix_cache_path_len: folder.len,
		no_prefix_cache:       boolInt(config.NoPrefixCache),
		rotate_context:        boolInt(config.RotateContext),
	}
	for _, count := range []struct {
		name  string
		value int
		to    *C.uint32_t
	}{
		{"ContextLen", config.ContextLen, &options.context_length},
		{"Threads", config.Threads, &options.threads},
		{"MaxConcurrent", config.MaxConcurrent, &options.max_concurrent},
		{"MaxQueue", config.MaxQueue, &options.max_queue},
		{"KVBits", config.KVBits, &options.kv_bits},
		{"KeepTokens", config.KeepTokens, &options.keep_tokens},
	} {
		var err error
		if *count.to, err = toUint32(count.name, count.value); err != nil {
			return nil, err
		}
	}
	return options, nil
}

func newModel(handle *C.mlxrt_model) (*Model, error) {
	desc := C.mlxrt_model_desc{struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_model_desc{}))}
	if err := check(func() C.mlxrt_status { return C.mlxrt_model_info(handle, &desc) }); err != nil {
		C.mlxrt_model_free(handle)
		return nil, err
	}
	m := &Model{info: ModelInfo{
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
	own(m, &m.owned, "model", handle, func(handle *C.mlxrt_model) { C.mlxrt_model_free(handle) })
	return m, nil
}

// Close frees the model and returns when its memory is free. Calls that are using it on other
// goroutines end with ErrClosed, and so does every later one. It may be called more than once and
// always returns nil.
func (m *Model) Close() error {
	m.close()
	return nil
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

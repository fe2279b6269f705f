package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"time"
	"unsafe"
)

// generation is what the three generating functions of C have in common.
type generation struct {
	options  *C.mlxrt_generate_options
	chat     *C.mlxrt_chat_options
	userData unsafe.Pointer
	result   *C.mlxrt_generate_result
	pins     *runtime.Pinner
}

// call is one of the three.
type call func(*C.mlxrt_model, generation) C.mlxrt_status

var onToken = C.mlxrt_token_callback(C.mlxrtGoToken)

func callPrompt(prompt string) call {
	return func(m *C.mlxrt_model, g generation) C.mlxrt_status {
		return C.mlxrt_model_generate(m, stringData(prompt), C.size_t(len(prompt)),
			g.options, onToken, g.userData, g.result)
	}
}

func callIDs(ids []int32) call {
	return func(m *C.mlxrt_model, g generation) C.mlxrt_status {
		return C.mlxrt_model_generate_ids(m, sliceData[C.int32_t](ids), C.size_t(len(ids)),
			g.options, onToken, g.userData, g.result)
	}
}

func callChat(messages []Message) call {
	return func(m *C.mlxrt_model, g generation) C.mlxrt_status {
		list := cMessages(messages, g.pins)
		return C.mlxrt_model_chat(m, sliceData[C.mlxrt_message](list), C.size_t(len(list)),
			g.chat, g.options, onToken, g.userData, g.result)
	}
}

// generate blocks until the answer is complete. It runs on a goroutine of its own: see pump.
func (m *Model) generate(ctx context.Context, call call, opts []GenerateOption, send sendToken) (Result, error) {
	var config GenerateConfig
	for _, opt := range opts {
		opt(&config)
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	options, err := cOptions(config, &pins)
	if err != nil {
		return Result{StopToken: -1}, err
	}
	cancel, err := newCanceller(ctx)
	if err != nil {
		return Result{StopToken: -1}, err
	}
	defer cancel.close()
	options.cancel = cancel.handle
	told := cgo.NewHandle(send)
	defer told.Delete()
	result := C.mlxrt_generate_result{
		struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_generate_result{})),
		stop_token:  -1,
	}
	err = m.use(func(handle *C.mlxrt_model) C.mlxrt_status {
		return call(handle, generation{options, cChatOptions(config.Chat, &pins), unsafe.Pointer(&told), &result, &pins})
	})
	return goResult(&result), err
}

func cOptions(config GenerateConfig, pins *runtime.Pinner) (*C.mlxrt_generate_options, error) {
	maxTokens, err := toUint32("MaxTokens", config.MaxTokens)
	if err != nil {
		return nil, err
	}
	topK, err := toUint32("TopK", config.TopK)
	if err != nil {
		return nil, err
	}
	window, err := toUint32("RepeatWindow", config.RepeatWindow)
	if err != nil {
		return nil, err
	}
	options := &C.mlxrt_generate_options{
		struct_size:        C.size_t(unsafe.Sizeof(C.mlxrt_generate_options{})),
		max_tokens:         maxTokens,
		temperature:        C.float(config.Temperature),
		top_k:              topK,
		top_p:              C.float(config.TopP),
		min_p:              C.float(config.MinP),
		repetition_penalty: C.float(config.RepeatPenalty),
		repetition_window:  window,
		ignore_end:         boolInt(config.IgnoreEnd),
		seed:               C.uint64_t(config.Seed),
		no_special:         boolInt(config.NoSpecial),
		plain_text:         boolInt(config.PlainText),
	}
	if len(config.StopTokens) > 0 {
		options.stop_tokens = sliceData[C.int32_t](config.StopTokens)
		options.stop_token_count = C.size_t(len(config.StopTokens))
		pins.Pin(options.stop_tokens)
	}
	if len(config.StopStrings) > 0 {
		list := make([]C.mlxrt_string, len(config.StopStrings))
		for i, text := range config.StopStrings {
			list[i] = cString(text, pins)
		}
		options.stop_strings = unsafe.SliceData(list)
		options.stop_string_count = C.size_t(len(list))
		pins.Pin(options.stop_strings)
	}
	return options, nil
}

// cString pins the bytes of a string: C may read only such Go memory through a pointer in memory.
func cString(s string, pins *runtime.Pinner) C.mlxrt_string {
	data := stringData(s)
	if data != nil {
		pins.Pin(data)
	}
	return C.mlxrt_string{data: data, len: C.size_t(len(s))}
}

func cChatOptions(chat ChatConfig, pins *runtime.Pinner) *C.mlxrt_chat_options {
	return &C.mlxrt_chat_options{
		struct_size:          C.size_t(unsafe.Sizeof(C.mlxrt_chat_options{})),
		messages:             cString(chat.Messages, pins),
		tools:                cString(chat.Tools, pins),
		variables:            cString(chat.Variables, pins),
		no_generation_prompt: boolInt(chat.NoGenerationPrompt),
	}
}

func cMessages(messages []Message, pins *runtime.Pinner) []C.mlxrt_message {
	list := make([]C.mlxrt_message, len(messages))
	for i, message := range messages {
		list[i].role = cString(message.Role, pins)
		list[i].content = cString(message.Content, pins)
	}
	return list
}

func goResult(result *C.mlxrt_generate_result) Result {
	seconds := func(s C.double) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }
	return Result{
		Finish:    Finish(result.finish),
		StopToken: int32(result.stop_token),
		GenerateMetrics: GenerateMetrics{
			PromptTokens:        int(result.prompt_tokens),
			GeneratedTokens:     int(result.generated_tokens),
			PrefillDuration:     seconds(result.prefill_seconds),
			DecodeDuration:      seconds(result.decode_seconds),
			TotalDuration:       seconds(result.total_seconds),
			PrefillTokensPerSec: float64(result.prefill_tokens_per_second),
			DecodeTokensPerSec:  float64(result.decode_tokens_per_second),
			PeakMemoryBytes:     uint64(result.peak_memory_bytes),
			ActiveMemoryBytes:   uint64(result.active_memory_bytes),
		},
	}
}

package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"context"
	"runtime"
	"time"
	"unsafe"
)

// opening is what the three functions of C that open a stream have in common.
type opening struct {
	options *C.mlxrt_generate_options
	chat    *C.mlxrt_chat_options
	stream  **C.mlxrt_stream
	pins    *runtime.Pinner
}

// opener is one of the three.
type opener func(*C.mlxrt_model, opening) C.mlxrt_status

func openPrompt(prompt string) opener {
	return func(m *C.mlxrt_model, o opening) C.mlxrt_status {
		return C.mlxrt_stream_open(m, stringData(prompt), C.size_t(len(prompt)), o.options, o.stream)
	}
}

func openIDs(ids []int32) opener {
	return func(m *C.mlxrt_model, o opening) C.mlxrt_status {
		return C.mlxrt_stream_open_ids(m, sliceData[C.int32_t](ids), C.size_t(len(ids)), o.options, o.stream)
	}
}

func openChat(messages []Message) opener {
	return func(m *C.mlxrt_model, o opening) C.mlxrt_status {
		list := cMessages(messages, o.pins)
		return C.mlxrt_stream_open_chat(m, sliceData[C.mlxrt_message](list), C.size_t(len(list)),
			o.chat, o.options, o.stream)
	}
}

// answer is a stream of C. Pulling tokens needs neither a goroutine beside the caller's nor calls of C
// into Go: the code of a loop runs between two calls of C, so it may panic, exit or leave as anywhere.
type answer struct {
	handle *C.mlxrt_stream
	cancel *canceller
}

// open begins an answer. The caller closes it.
func (m *Model) open(ctx context.Context, open opener, opts []GenerateOption) (*answer, error) {
	config := generateConfig(opts)
	var pins runtime.Pinner
	defer pins.Unpin()
	options, err := cOptions(config, &pins)
	if err != nil {
		return nil, err
	}
	cancel, err := newCanceller(ctx)
	if err != nil {
		return nil, err
	}
	options.cancel = cancel.handle
	session := config.Session
	if session != nil {
		if err := session.ready(); err != nil {
			cancel.close()
			return nil, err
		}
		options.session = session.handle
	}
	var stream *C.mlxrt_stream
	err = m.use(func(handle *C.mlxrt_model) C.mlxrt_status {
		return open(handle, opening{options, cChatOptions(config.Chat, &pins), &stream, &pins})
	})
	if session != nil {
		err = session.settle(err)
	}
	if err != nil {
		cancel.close()
		return nil, err
	}
	return &answer{stream, cancel}, nil
}

// next waits for a token; false: the answer is complete.
func (a *answer) next() (token Token, more bool, err error) {
	err = check(func() C.mlxrt_status {
		var found *C.mlxrt_token
		status := C.mlxrt_stream_next(a.handle, &found)
		if more = found != nil; more {
			token = goToken(found)
		}
		return status
	})
	return token, more, err
}

// result tells what was done so far.
func (a *answer) result() Result {
	result := newCResult()
	// It fails for a stream that was freed or is in use, which this one is not.
	_ = check(func() C.mlxrt_status { return C.mlxrt_stream_result(a.handle, &result) })
	return goResult(&result)
}

func (a *answer) close() {
	C.mlxrt_stream_free(a.handle)
	a.cancel.close()
}

func generateConfig(opts []GenerateOption) (config GenerateConfig) {
	for _, opt := range opts {
		opt(&config)
	}
	return config
}

func goToken(token *C.mlxrt_token) Token {
	return Token{ID: int32(token.id), Text: goString(token.text, token.text_len), Logprob: float32(token.logprob)}
}

func newCResult() C.mlxrt_generate_result {
	return C.mlxrt_generate_result{
		struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_generate_result{})),
		stop_token:  -1,
	}
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

func seconds(s C.double) time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

func goResult(result *C.mlxrt_generate_result) Result {
	return Result{
		Finish:    Finish(result.finish),
		StopToken: int32(result.stop_token),
		GenerateMetrics: GenerateMetrics{
			PromptTokens:        int(result.prompt_tokens),
			CachedTokens:        int(result.cached_tokens),
			GeneratedTokens:     int(result.generated_tokens),
			QueueDuration:       seconds(result.queue_seconds),
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

package mlxrt

// #include "callback.h"
import "C"

import (
	"errors"
	"runtime"
)

// Tokenize turns text into token ids. Special tokens written in the text, such as "<|im_end|>",
// become their ids; with addSpecial the model's own (a beginning-of-text token, say) are added.
func (m *Model) Tokenize(text string, addSpecial bool) ([]int32, error) {
	return m.tokenize(text, addSpecial, 0)
}

// TokenizePlain is Tokenize with special tokens that are written in the text read as text.
func (m *Model) TokenizePlain(text string, addSpecial bool) ([]int32, error) {
	return m.tokenize(text, addSpecial, C.MLXRT_TOKENIZE_PLAIN_TEXT)
}

func (m *Model) tokenize(text string, addSpecial bool, flags C.uint32_t) ([]int32, error) {
	if addSpecial {
		flags |= C.MLXRT_TOKENIZE_ADD_SPECIAL
	}
	// Most texts have fewer tokens than bytes; the rest cost a second call.
	return fill(&m.owned, len(text)+8, func(h *C.mlxrt_model, ids []int32, count *C.size_t) C.mlxrt_status {
		return C.mlxrt_model_tokenize(h, stringData(text), C.size_t(len(text)), flags,
			sliceData[C.int32_t](ids), C.size_t(len(ids)), count)
	})
}

// Detokenize turns token ids into text; with skipSpecial special tokens are left out. Bytes that are
// no UTF-8 become U+FFFD.
func (m *Model) Detokenize(ids []int32, skipSpecial bool) (string, error) {
	text, err := fill(&m.owned, 8*len(ids), func(h *C.mlxrt_model, text []byte, length *C.size_t) C.mlxrt_status {
		return C.mlxrt_model_detokenize(h, sliceData[C.int32_t](ids), C.size_t(len(ids)), boolInt(skipSpecial),
			sliceData[C.char](text), C.size_t(len(text)), length)
	})
	return string(text), err
}

// RenderChat is the text that a conversation becomes through the model's chat template: what Chat
// gives the model to read.
func (m *Model) RenderChat(messages []Message, chat ChatConfig) (string, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	list, options := cMessages(messages, &pins), cChatOptions(chat, &pins)
	guess := len(chat.Messages) + len(chat.Tools) + len(chat.Variables)
	for _, message := range messages {
		guess += len(message.Role) + len(message.Content) + 64
	}
	text, err := fill(&m.owned, guess, func(h *C.mlxrt_model, text []byte, length *C.size_t) C.mlxrt_status {
		return C.mlxrt_model_render_chat(h, sliceData[C.mlxrt_message](list), C.size_t(len(list)),
			options, sliceData[C.char](text), C.size_t(len(text)), length)
	})
	return string(text), err
}

// fill calls with a buffer of a guessed size, and again with the right size if it was too small.
func fill[H, T any](from *owned[H], guess int, call func(H, []T, *C.size_t) C.mlxrt_status) ([]T, error) {
	for {
		guess = max(guess, 1) // with no buffer at all the library only counts
		buffer := make([]T, guess)
		var needed C.size_t
		err := from.use(func(h H) C.mlxrt_status { return call(h, buffer, &needed) })
		if err == nil {
			return buffer[:needed:needed], nil
		}
		if !errors.Is(err, statusBufferTooSmall) || int(needed) <= guess {
			return nil, err
		}
		guess = int(needed)
	}
}

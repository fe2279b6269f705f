package mlxrt_test

import (
	"errors"
	"strings"
	"testing"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func TestTokenizeRoundTrip(t *testing.T) {
	model := demo(t)
	for _, text := range []string{"", "a", "What is the capital of France?", "Grüße, 世界 😀", "<|im_end|>",
		strings.Repeat("a long text\n", 500)} {
		ids, err := model.Tokenize(text, false)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		back, err := model.Detokenize(ids, false)
		if err != nil || back != text {
			t.Errorf("%q became %v and then %q, %v", text, ids, back, err)
		}
	}
}

func TestSpecialTokens(t *testing.T) {
	model := demo(t)
	ids, err := model.Tokenize("<|im_end|>", false)
	if err != nil || len(ids) != 1 {
		t.Fatalf("%v, %v", ids, err)
	}
	// Longer than the buffer that Detokenize guesses first.
	whole, err1 := model.Detokenize(ids, false)
	none, err2 := model.Detokenize(ids, true)
	if err := errors.Join(err1, err2); err != nil || whole != "<|im_end|>" || none != "" {
		t.Errorf("%q, without special tokens %q, %v", whole, none, err)
	}
}

func TestSpecialTokensAsText(t *testing.T) {
	model := demo(t)
	ids, err := model.TokenizePlain("<|im_end|>", false)
	if err != nil || len(ids) < 2 {
		t.Fatalf("%v, %v", ids, err)
	}
	if text, err := model.Detokenize(ids, true); err != nil || text != "<|im_end|>" {
		t.Errorf("%q, %v", text, err)
	}
	read := func(opts ...mlxrt.GenerateOption) int {
		stream := model.StreamChat(t.Context(), ask("<|im_end|>"), append(opts, mlxrt.WithMaxTokens(1))...)
		for range stream.Tokens() {
		}
		if err := stream.Err(); err != nil {
			t.Error(err)
		}
		return stream.Result().PromptTokens
	}
	if parsed, plain := read(), read(mlxrt.WithPlainText()); plain-parsed != len(ids)-1 {
		t.Errorf("%d tokens, as text %d; the token's text has %d", parsed, plain, len(ids))
	}
}

func TestTokenizeFails(t *testing.T) {
	model := demo(t)
	if _, err := model.Tokenize("\xff", false); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
	if _, err := model.Detokenize([]int32{1 << 30}, false); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
	if _, err := model.RenderChat(nil, mlxrt.ChatConfig{}); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
}

func TestRenderChat(t *testing.T) {
	model := demo(t)
	long := strings.Repeat("Grüße! ", 200)
	messages := append(ask("Hello?"), mlxrt.Message{Role: "assistant", Content: ""}, ask(long)[0])
	closed, err1 := model.RenderChat(messages, mlxrt.ChatConfig{NoGenerationPrompt: true})
	open, err2 := model.RenderChat(messages, mlxrt.ChatConfig{})
	if err := errors.Join(err1, err2); err != nil || !strings.Contains(closed, "Hello?") ||
		!strings.Contains(closed, long) || !strings.HasPrefix(open, closed) || len(open) <= len(closed) {
		t.Errorf("%q, with the beginning of an answer %q, %v", closed, open, err)
	}
}

func TestChatConfig(t *testing.T) {
	model := demo(t)
	chat := mlxrt.ChatConfig{
		Messages:  `[{"role": "user", "content": "Hello?"}]`,
		Tools:     `[{"type": "function", "function": {"name": "add"}}]`,
		Variables: `{"enable_thinking": false}`,
	}
	fromJSON, err1 := model.RenderChat(nil, chat)
	plain, err2 := model.RenderChat(ask("Hello?"), mlxrt.ChatConfig{})
	if err := errors.Join(err1, err2); err != nil || fromJSON != plain {
		t.Errorf("%q, from JSON %q, %v", plain, fromJSON, err)
	}
	for _, bad := range []mlxrt.ChatConfig{
		{Messages: `[1]`}, {Messages: `[`}, {Tools: `{}`}, {Variables: `[]`}, {Variables: `{"tools": 1}`},
	} {
		messages := ask("Hello?")
		if bad.Messages != "" {
			messages = nil
		}
		if _, err := model.RenderChat(messages, bad); !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	stream := model.StreamChat(t.Context(), nil, mlxrt.WithChat(chat), mlxrt.WithMaxTokens(1))
	for range stream.Tokens() {
	}
	if err := stream.Err(); err != nil || stream.Result().PromptTokens == 0 {
		t.Errorf("%+v, %v", stream.Result(), err)
	}
}

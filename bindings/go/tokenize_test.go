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

func TestTokenizeFails(t *testing.T) {
	model := demo(t)
	if _, err := model.Tokenize("\xff", false); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
	if _, err := model.Detokenize([]int32{1 << 30}, false); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
	if _, err := model.RenderChat(nil, true); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
}

func TestRenderChat(t *testing.T) {
	model := demo(t)
	long := strings.Repeat("Grüße! ", 200)
	messages := append(ask("Hello?"), mlxrt.Message{Role: "assistant", Content: ""}, ask(long)[0])
	closed, err1 := model.RenderChat(messages, false)
	open, err2 := model.RenderChat(messages, true)
	if err := errors.Join(err1, err2); err != nil || !strings.Contains(closed, "Hello?") ||
		!strings.Contains(closed, long) || !strings.HasPrefix(open, closed) || len(open) <= len(closed) {
		t.Errorf("%q, with the beginning of an answer %q, %v", closed, open, err)
	}
}

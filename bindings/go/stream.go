package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"context"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Token is a generated token.
type Token struct {
	ID      int32   // -1: text that was held back and comes with no token of its own
	Text    string  // what this token completes: whole UTF-8, perhaps none yet
	Logprob float32 // the natural logarithm of the probability that the model gave it
}

// Message is one message of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user", "assistant", or what else the template knows
	Content string `json:"content"`
}

// Finish says why an answer ended.
type Finish int32

// Reasons to end.
const (
	FinishNone       Finish = C.MLXRT_FINISH_NONE        // it did not: the call failed, or is under way
	FinishEnd        Finish = C.MLXRT_FINISH_END         // the model ended its turn, or a stop token came
	FinishLength     Finish = C.MLXRT_FINISH_LENGTH      // MaxTokens were generated
	FinishStopString Finish = C.MLXRT_FINISH_STOP_STRING // a stop string came
	FinishLeft       Finish = C.MLXRT_FINISH_CALLBACK    // the loop over the tokens was left
	FinishContext    Finish = C.MLXRT_FINISH_CONTEXT     // the context window is full
)

// GenerateMetrics is what an operation did and what it took. Durations are wall-clock: those in which the
// model was also busy with other goroutines count in full.
type GenerateMetrics struct {
	PromptTokens        int
	CachedTokens        int           // of them, those that a cache had, so that they were not computed
	GeneratedTokens     int           // one that ended the answer included
	QueueDuration       time.Duration // until the model began with the request; part of PrefillDuration
	PrefillDuration     time.Duration // from the call to the first token
	DecodeDuration      time.Duration // from the first token to the last
	TotalDuration       time.Duration
	PrefillTokensPerSec float64
	DecodeTokensPerSec  float64
	PeakMemoryBytes     uint64 // GetPeakMemory at the end; the call does not reset it
	ActiveMemoryBytes   uint64 // GetActiveMemory at the end
}

// Result is how an operation ended and what it took.
type Result struct {
	GenerateMetrics
	Finish    Finish
	StopToken int32 // the id that ended the answer where Finish is FinishEnd, else -1
}

// Stream is one answer of a model. It begins when its tokens are first asked for, so one that is
// thrown away unused needs no closing. Its methods may be called from any goroutine.
type Stream struct {
	model   *Model
	ctx     context.Context
	open    opener
	opts    []GenerateOption
	started atomic.Bool

	mu     sync.Mutex // guards what follows
	result Result
	err    error
}

// Stream continues a prompt as it stands.
func (m *Model) Stream(ctx context.Context, prompt string, opts ...GenerateOption) *Stream {
	return m.stream(ctx, openPrompt(prompt), opts)
}

// StreamIDs continues a prompt of token ids.
func (m *Model) StreamIDs(ctx context.Context, ids []int32, opts ...GenerateOption) *Stream {
	return m.stream(ctx, openIDs(ids), opts)
}

// StreamChat answers a conversation through the model's chat template.
func (m *Model) StreamChat(ctx context.Context, messages []Message, opts ...GenerateOption) *Stream {
	return m.stream(ctx, openChat(messages), opts)
}

func (m *Model) stream(ctx context.Context, open opener, opts []GenerateOption) *Stream {
	return &Stream{model: m, ctx: ctx, open: open, opts: opts, result: Result{StopToken: -1}}
}

// Tokens generates the answer. Leaving the loop or ending the context stops it; when the loop is
// over, however it ended, the library is done with it and Err and Result are there. A stream gives
// its tokens once: another range over them gives none.
func (s *Stream) Tokens() iter.Seq[Token] {
	return func(yield func(Token) bool) {
		if s.started.Swap(true) {
			return
		}
		result := Result{StopToken: -1}
		var err error
		left := false
		defer func() { s.end(result, err, left) }() // also when the loop's body panics
		if err = s.ctx.Err(); err != nil {
			return
		}
		answer, failed := s.model.open(s.ctx, s.open, s.opts)
		if failed != nil {
			err = failed
			return
		}
		defer func() {
			result = answer.result()
			answer.close()
		}()
		for !left {
			var token Token
			var more bool
			// The context's end may reach the library a moment later.
			if err = s.ctx.Err(); err == nil {
				token, more, err = answer.next()
			}
			if !more {
				return
			}
			left = true // unless yield returns true
			left = !yield(token)
		}
	}
}

func (s *Stream) end(result Result, err error, left bool) {
	if left {
		result.Finish, result.StopToken = FinishLeft, -1
	} else {
		err = contextError(s.ctx, err)
	}
	s.mu.Lock()
	s.result, s.err = result, err
	s.mu.Unlock()
	s.model.mu.Lock()
	s.model.last, s.model.lastErr = result.GenerateMetrics, err
	s.model.mu.Unlock()
}

// Text generates the answer and returns it whole. After an error it returns what came until then.
func (s *Stream) Text() (string, error) {
	var text strings.Builder
	for token := range s.Tokens() {
		text.WriteString(token.Text)
	}
	return text.String(), s.Err()
}

// Err tells how the answer ended: nil for one that came to its end and for a loop that was left
// early, the context's error, or the library's. It is nil while the answer is under way.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Result tells what the answer took. While it is under way there is nothing to tell.
func (s *Stream) Result() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.result
}

package mlxrt_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func TestAnswers(t *testing.T) {
	all := questions(t)
	model := demo(t)
	for _, q := range all {
		answer, err := model.StreamChat(context.Background(), ask(q.Question)).Text()
		if err != nil || !strings.Contains(answer, q.Expect) {
			t.Errorf("%s: answered %q, %v; expected %q in it", q.Question, answer, err, q.Expect)
		}
	}
}

func TestParis(t *testing.T) {
	model := demo(t)
	var answer strings.Builder
	for token := range model.Chat(context.Background(), ask("What is the capital of France?")) {
		answer.WriteString(token.Text)
	}
	if err := model.Err(); err != nil || !strings.Contains(answer.String(), "Paris") {
		t.Errorf("answered %q, %v", answer.String(), err)
	}
	metrics := model.Metrics()
	if metrics.PromptTokens == 0 || metrics.GeneratedTokens == 0 || metrics.TotalDuration <= 0 {
		t.Errorf("metrics: %+v", metrics)
	}
}

// The tokens of the callback are the answer: in order, none lost, each whole UTF-8.
func TestTokensAreTheAnswer(t *testing.T) {
	model := demo(t)
	stream := model.StreamChat(context.Background(), ask(longStory))
	var text strings.Builder
	var ids []int32
	for token := range stream.Tokens() {
		if !utf8.ValidString(token.Text) {
			t.Errorf("token %d is no UTF-8: %q", token.ID, token.Text)
		}
		if token.Logprob > 0 || math.IsNaN(float64(token.Logprob)) {
			t.Errorf("token %d has logprob %v", token.ID, token.Logprob)
		}
		text.WriteString(token.Text)
		if token.ID >= 0 {
			ids = append(ids, token.ID)
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	whole, err := model.Detokenize(ids, true)
	if err != nil || whole != text.String() {
		t.Errorf("tokens say %q, detokenize says %q, %v", text.String(), whole, err)
	}
	result := stream.Result()
	if result.Finish == mlxrt.FinishEnd {
		ids = append(ids, result.StopToken)
	}
	if result.GeneratedTokens != len(ids) {
		t.Errorf("%d tokens came, metrics say %d", len(ids), result.GeneratedTokens)
	}
}

func TestGenerateAndIDsAgree(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	prompt, err := model.RenderChat(ask("What is the capital of France?"), mlxrt.ChatConfig{})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := model.Tokenize(prompt, false)
	if err != nil {
		t.Fatal(err)
	}
	chat, err1 := model.StreamChat(ctx, ask("What is the capital of France?")).Text()
	text, err2 := model.Stream(ctx, prompt, mlxrt.WithNoSpecial()).Text()
	byID, err3 := model.StreamIDs(ctx, ids).Text()
	if err := errors.Join(err1, err2, err3); err != nil || chat != text || chat != byID {
		t.Errorf("chat %q, prompt %q, ids %q, %v", chat, text, byID, err)
	}
}

func TestMaxTokens(t *testing.T) {
	stream := demo(t).StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(5))
	if _, err := stream.Text(); err != nil {
		t.Fatal(err)
	}
	if r := stream.Result(); r.GeneratedTokens != 5 || r.Finish != mlxrt.FinishLength || r.StopToken != -1 {
		t.Errorf("result: %+v", r)
	}
}

func TestStopTokenAndString(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	var ids []int32
	for token := range model.Chat(ctx, ask(longStory), mlxrt.WithMaxTokens(12)) {
		ids = append(ids, token.ID)
	}
	stop := ids[len(ids)-1]
	stream := model.StreamChat(ctx, ask(longStory), mlxrt.WithStopTokens(stop))
	if _, err := stream.Text(); err != nil {
		t.Fatal(err)
	}
	if r := stream.Result(); r.Finish != mlxrt.FinishEnd || r.StopToken != stop ||
		r.GeneratedTokens != slices.Index(ids, stop)+1 {
		t.Errorf("stop token %d of %v: %+v", stop, ids, r)
	}
	stream = model.StreamChat(ctx, ask("What is the capital of France?"), mlxrt.WithStopStrings("never", "ari"))
	answer, err := stream.Text()
	if err != nil || !strings.HasSuffix(answer, " P") || stream.Result().Finish != mlxrt.FinishStopString {
		t.Errorf("stop string: %q, %v, %+v", answer, err, stream.Result())
	}
}

func TestSeeds(t *testing.T) {
	model := demo(t)
	sample := func(seed uint64) string {
		text, err := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithTemperature(1.5),
			mlxrt.WithTopK(200), mlxrt.WithMaxTokens(40), mlxrt.WithSeed(seed)).Text()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if one, two := sample(7), sample(7); one != two {
		t.Errorf("seed 7 gave %q and %q", one, two)
	}
	if one, two := sample(7), sample(8); one == two {
		t.Errorf("seeds 7 and 8 both gave %q", one)
	}
}

func TestBreak(t *testing.T) {
	model := demo(t)
	stream := model.StreamChat(context.Background(), ask(longStory))
	count := 0
	within(t, 5*time.Second, "leaving the loop", func() {
		for range stream.Tokens() {
			if count++; count == 3 {
				break
			}
		}
	})
	if r := stream.Result(); stream.Err() != nil || r.Finish != mlxrt.FinishLeft || r.GeneratedTokens > 5 {
		t.Errorf("left after %d tokens: %v, %+v", count, stream.Err(), r)
	}
	for range stream.Tokens() {
		t.Error("a stream gave its tokens twice")
	}
	idle(t, model)
}

// An iter.Seq may be ranged over again: then it generates again.
func TestGenerateAgain(t *testing.T) {
	tokens := demo(t).Chat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(4))
	if one, two := slices.Collect(tokens), slices.Collect(tokens); len(one) == 0 || !slices.Equal(one, two) {
		t.Errorf("first %v, then %v", one, two)
	}
}

func TestContext(t *testing.T) {
	model := demo(t)
	t.Run("cancelled in the loop", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		count := 0
		for range model.Chat(ctx, ask(longStory)) {
			if count++; count == 3 {
				cancel()
			}
		}
		if count != 3 || model.Err() != context.Canceled {
			t.Errorf("%d tokens, %v", count, model.Err())
		}
	})
	t.Run("cancelled by another goroutine", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(20*time.Millisecond, cancel)
		stream := model.StreamChat(ctx, ask(longStory), mlxrt.WithIgnoreEnd(), mlxrt.WithMaxTokens(900))
		within(t, 5*time.Second, "cancelling", func() {
			if _, err := stream.Text(); err != context.Canceled {
				t.Errorf("%v, %+v", err, stream.Result())
			}
		})
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		_, err := model.StreamChat(ctx, ask(longStory), mlxrt.WithIgnoreEnd(), mlxrt.WithMaxTokens(900)).Text()
		if err != context.DeadlineExceeded {
			t.Error(err)
		}
	})
	t.Run("over before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range model.Chat(ctx, ask(longStory)) {
			t.Error("a token came")
		}
		if model.Err() != context.Canceled {
			t.Error(model.Err())
		}
		if _, err := mlxrt.Load(ctx, demoPath(t)); err != context.Canceled {
			t.Error(err)
		}
	})
}

// The user's code may panic or end its goroutine in the loop: nothing is left running.
func TestLoopBodyPanics(t *testing.T) {
	model := demo(t)
	stream := model.StreamChat(context.Background(), ask(longStory))
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the panic did not come through")
			}
		}()
		for range stream.Tokens() {
			panic("mine")
		}
	}()
	if r := stream.Result(); stream.Err() != nil || r.Finish != mlxrt.FinishLeft {
		t.Errorf("%v, %+v", stream.Err(), r)
	}
}

func TestLoopBodyExitsGoroutine(t *testing.T) {
	stream := demo(t).StreamChat(context.Background(), ask(longStory))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range stream.Tokens() {
			runtime.Goexit()
		}
	}()
	<-done
	if r := stream.Result(); stream.Err() != nil || r.Finish != mlxrt.FinishLeft {
		t.Errorf("%v, %+v", stream.Err(), r)
	}
}

// Goroutines that share the model's steps get the answers that they would get alone, greedy and seeded.
func TestManyGoroutines(t *testing.T) {
	model := demo(t)
	const kinds = 8
	options := func(kind int) []mlxrt.GenerateOption {
		list := []mlxrt.GenerateOption{mlxrt.WithMaxTokens(24), mlxrt.WithIgnoreEnd()}
		if kind%2 == 1 {
			list = append(list, mlxrt.WithTemperature(1.2), mlxrt.WithSeed(uint64(kind)))
		}
		return list
	}
	var want [kinds]string
	for kind := range kinds {
		var err error
		if want[kind], err = model.StreamChat(context.Background(), ask(longStory[kind:]), options(kind)...).Text(); err != nil {
			t.Fatal(err)
		}
	}
	var group sync.WaitGroup
	for i := range 32 {
		group.Add(1)
		go func() {
			defer group.Done()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			kind := i % kinds
			stream := model.StreamChat(ctx, ask(longStory[kind:]), options(kind)...)
			text := ""
			for token := range stream.Tokens() {
				text += token.Text
				if i >= 24 { // some leave early, and the others don't notice
					cancel()
				}
			}
			if i >= 24 {
				if stream.Err() != context.Canceled {
					t.Errorf("goroutine %d: %v", i, stream.Err())
				}
			} else if stream.Err() != nil || text != want[kind] {
				t.Errorf("goroutine %d: %q, %v; alone: %q", i, text, stream.Err(), want[kind])
			}
		}()
	}
	group.Wait()
}

// A loop that takes its time does not hold up other goroutines.
func TestSlowLoop(t *testing.T) {
	model := demo(t)
	slow := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(4))
	for range slow.Tokens() {
		done := make(chan error)
		go func() {
			_, err := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(8)).Text()
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the other goroutine waits for the loop")
		}
	}
	if slow.Err() != nil {
		t.Error(slow.Err())
	}
}

// The model may be used in the loop over its own tokens.
func TestNested(t *testing.T) {
	model := demo(t)
	inner := 0
	outer := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(3))
	for range outer.Tokens() {
		answer, err := model.StreamChat(context.Background(), ask("What is the capital of France?")).Text()
		if err != nil || !strings.Contains(answer, "Paris") {
			t.Errorf("%q, %v", answer, err)
		}
		inner++
	}
	if inner == 0 || outer.Err() != nil {
		t.Errorf("%d answers, %v", inner, outer.Err())
	}
}

func TestBadArguments(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	for name, stream := range map[string]*mlxrt.Stream{
		"empty prompt":         model.Stream(ctx, ""),
		"no UTF-8":             model.Stream(ctx, "a\xff"),
		"no messages":          model.StreamChat(ctx, nil),
		"message not UTF-8":    model.StreamChat(ctx, ask("\xff")),
		"negative max tokens":  model.Stream(ctx, "a", mlxrt.WithMaxTokens(-1)),
		"negative top k":       model.Stream(ctx, "a", mlxrt.WithTopK(-1)),
		"negative window":      model.Stream(ctx, "a", mlxrt.WithRepeatWindow(-1)),
		"negative temperature": model.Stream(ctx, "a", mlxrt.WithTemperature(-1)),
		"temperature is NaN":   model.Stream(ctx, "a", mlxrt.WithTemperature(float32(math.NaN()))),
		"bad id":               model.StreamIDs(ctx, []int32{-5}),
	} {
		text, err := stream.Text()
		var typed *mlxrt.Error
		if text != "" || !errors.Is(err, mlxrt.ErrBadArgument) || !errors.As(err, &typed) || typed.Message == "" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	_, err := model.Stream(ctx, strings.Repeat("word ", 5000)).Text()
	if !errors.Is(err, mlxrt.ErrContextFull) {
		t.Errorf("a prompt that is too long: %v", err)
	}
}

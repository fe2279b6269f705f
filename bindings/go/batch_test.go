package mlxrt_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

var prompts = []string{
	"Once",
	"The quick brown fox",
	"What is the capital of France? The capital of France",
}

// idle waits until the model has nothing to do.
func idle(t *testing.T, model *mlxrt.Model) mlxrt.Stats {
	t.Helper()
	for range 5000 {
		stats, err := model.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if stats.Running+stats.Waiting == 0 {
			return stats
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the model does not come to rest")
	return mlxrt.Stats{}
}

func TestGenerateBatch(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	for name, opts := range map[string][]mlxrt.GenerateOption{
		"greedy": {mlxrt.WithMaxTokens(16), mlxrt.WithIgnoreEnd()},
		"seeded": {mlxrt.WithMaxTokens(16), mlxrt.WithIgnoreEnd(), mlxrt.WithTemperature(1.2), mlxrt.WithSeed(5)},
	} {
		before := idle(t, model)
		results, err := model.GenerateBatch(ctx, prompts, opts...)
		if err != nil || len(results) != len(prompts) {
			t.Fatalf("%s: %d results, %v", name, len(results), err)
		}
		after := idle(t, model)
		if steps := after.Steps - before.Steps; steps < 16 || steps >= 16*2 {
			t.Errorf("%s: %d steps for 16 tokens of each prompt", name, steps)
		}
		if after.Tokens-before.Tokens < 3*16 || after.StepDuration <= before.StepDuration {
			t.Errorf("%s: from %+v to %+v", name, before, after)
		}
		for i, r := range results {
			stream := model.Stream(ctx, prompts[i], opts...)
			alone := slices.Collect(stream.Tokens())
			if r.Err != nil || !sameTokens(r.Tokens, alone) {
				t.Errorf("%s: prompt %d: %q, %v; alone %v", name, i, r.Text(), r.Err, alone)
			}
			want := stream.Result()
			if r.Finish != want.Finish || r.PromptTokens != want.PromptTokens || r.GeneratedTokens != 16 ||
				r.QueueDuration > r.PrefillDuration || r.PrefillDuration > r.TotalDuration {
				t.Errorf("%s: prompt %d: %+v; alone %+v", name, i, r.Result, want)
			}
		}
	}
}

// sameTokens compares ids and texts; the last bits of a logprob depend on what else was computed.
func sameTokens(a, b []mlxrt.Token) bool {
	return slices.EqualFunc(a, b, func(a, b mlxrt.Token) bool { return a.ID == b.ID && a.Text == b.Text })
}

func TestBatchWithPromptsThatFail(t *testing.T) {
	model := demo(t)
	list := []string{prompts[0], "", strings.Repeat("word ", 5000), prompts[1]}
	results, err := model.GenerateBatch(context.Background(), list, mlxrt.WithMaxTokens(3), mlxrt.WithIgnoreEnd())
	if !errors.Is(err, mlxrt.ErrBadArgument) || !strings.Contains(err.Error(), "prompts[1]") || len(results) != 4 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	if results[1].Err != err || !errors.Is(results[2].Err, mlxrt.ErrContextFull) {
		t.Errorf("%v, %v", results[1].Err, results[2].Err)
	}
	for _, i := range []int{0, 3} {
		if results[i].Err != nil || len(results[i].Tokens) != 3 || results[i].Finish != mlxrt.FinishLength {
			t.Errorf("prompt %d: %+v", i, results[i])
		}
	}
	classes, err := model.Classify(context.Background(), list)
	if !errors.Is(err, mlxrt.ErrBadArgument) || len(classes) != 4 || classes[1].Err != err || classes[1].Token.ID != -1 {
		t.Fatalf("%+v, %v", classes, err)
	}
	if classes[0].Err != nil || !errors.Is(classes[2].Err, mlxrt.ErrContextFull) || classes[3].Err != nil {
		t.Errorf("%+v", classes)
	}
}

func TestBatchContext(t *testing.T) {
	model := demo(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	within(t, 10*time.Second, "the deadline", func() {
		results, err := model.GenerateBatch(ctx, prompts, mlxrt.WithMaxTokens(900), mlxrt.WithIgnoreEnd())
		if err != context.DeadlineExceeded || len(results) != len(prompts) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if r.Err != context.DeadlineExceeded || r.GeneratedTokens != len(r.Tokens) || r.Finish != mlxrt.FinishNone {
				t.Errorf("prompt %d: %d tokens, %v, %+v", i, len(r.Tokens), r.Err, r.Result)
			}
		}
	})
	if results, err := model.GenerateBatch(ctx, prompts); results != nil || err != context.DeadlineExceeded {
		t.Errorf("after the deadline: %v, %v", results, err)
	}
	if results, err := model.Classify(ctx, prompts); results != nil || err != context.DeadlineExceeded {
		t.Errorf("after the deadline: %v, %v", results, err)
	}
}

func TestBatchBadArguments(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	for name, opts := range map[string][]mlxrt.GenerateOption{
		"negative":    {mlxrt.WithMaxTokens(-1)},
		"temperature": {mlxrt.WithTemperature(-1)},
	} {
		if results, err := model.GenerateBatch(ctx, prompts, opts...); results != nil || !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Errorf("%s: %v, %v", name, results, err)
		}
	}
	if results, err := model.GenerateBatch(ctx, []string{"a", "\xff"}); results != nil || !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Errorf("%v, %v", results, err)
	}
	for name, opts := range map[string][]mlxrt.GenerateOption{
		"label": {mlxrt.WithLabels(1 << 20)},
		"both":  {mlxrt.WithLabels(1), mlxrt.WithLogits()},
	} {
		if results, err := model.Classify(ctx, prompts, opts...); results != nil || !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Errorf("%s: %v, %v", name, results, err)
		}
	}
	if results, err := model.GenerateBatch(ctx, nil); len(results) != 0 || err != nil {
		t.Errorf("no prompts: %v, %v", results, err)
	}
	if results, err := model.Classify(ctx, nil); len(results) != 0 || err != nil {
		t.Errorf("no prompts: %v, %v", results, err)
	}
	closed := ownDemo(t)
	closed.Close()
	if _, err := closed.GenerateBatch(ctx, prompts); !errors.Is(err, mlxrt.ErrClosed) {
		t.Error(err)
	}
	if _, err := closed.Classify(ctx, prompts); !errors.Is(err, mlxrt.ErrClosed) {
		t.Error(err)
	}
	if _, err := closed.Stats(); !errors.Is(err, mlxrt.ErrClosed) {
		t.Error(err)
	}
}

func TestClassify(t *testing.T) {
	model := demo(t)
	ctx := context.Background()
	all, err1 := model.Classify(ctx, prompts, mlxrt.WithLogits())
	some, err2 := model.Classify(ctx, prompts, mlxrt.WithLabels(700, 3))
	none, err3 := model.Classify(ctx, prompts)
	if err := errors.Join(err1, err2, err3); err != nil || len(all) != 3 || len(some) != 3 || len(none) != 3 {
		t.Fatal(err)
	}
	for i, r := range all {
		if len(r.Logits) != model.Info().VocabSize || len(some[i].Logits) != 2 || none[i].Logits != nil {
			t.Fatalf("prompt %d: %d, %d and %d logits", i, len(r.Logits), len(some[i].Logits), len(none[i].Logits))
		}
		sum := 0.0
		for _, logit := range r.Logits {
			sum += math.Exp(float64(logit - r.Logits[r.Token.ID]))
		}
		if logprob := -math.Log(sum); math.Abs(logprob-float64(r.Token.Logprob)) > 1e-4 {
			t.Errorf("prompt %d: logprob %v, of the logits %v", i, r.Token.Logprob, logprob)
		}
		for at, id := range []int{700, 3} {
			if math.Abs(float64(some[i].Logits[at]-r.Logits[id])) > 1e-4 {
				t.Errorf("prompt %d: label %d is %v, of all %v", i, id, some[i].Logits[at], r.Logits[id])
			}
		}
		for token := range model.Generate(ctx, prompts[i], mlxrt.WithMaxTokens(1), mlxrt.WithIgnoreEnd()) {
			if token.ID != r.Token.ID || token.ID != none[i].Token.ID {
				t.Errorf("prompt %d: %v, generated %v", i, r.Token, token)
			}
			break
		}
	}
}

func TestBusy(t *testing.T) {
	ctx := context.Background()
	model, err := mlxrt.Load(ctx, demoPath(t), mlxrt.WithMaxConcurrent(1), mlxrt.WithMaxQueue(1))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	// More prompts than may wait are no trouble.
	if _, err := model.GenerateBatch(ctx, prompts, mlxrt.WithMaxTokens(3)); err != nil {
		t.Error(err)
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	for range model.Generate(ctx, prompts[0], mlxrt.WithMaxTokens(900), mlxrt.WithIgnoreEnd()) {
		// One is under way, and another caller's is all that can wait.
		go func() {
			for range model.Generate(waiting, prompts[0], mlxrt.WithMaxTokens(3)) {
			}
		}()
		for stats, _ := model.Stats(); stats.Waiting == 0; stats, _ = model.Stats() {
			time.Sleep(time.Millisecond)
		}
		results, err := model.GenerateBatch(withDeadline(t), prompts, mlxrt.WithMaxTokens(3))
		if err == nil || !errors.Is(results[0].Err, mlxrt.ErrBusy) || !errors.Is(results[2].Err, mlxrt.ErrBusy) {
			t.Errorf("%v, %+v", err, results)
		}
		break
	}
	for _, opt := range []mlxrt.LoadOption{mlxrt.WithMaxConcurrent(-1), mlxrt.WithMaxQueue(-1)} {
		if _, err := mlxrt.Load(ctx, demoPath(t), opt); !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Error(err)
		}
	}
}

func withDeadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	t.Cleanup(cancel)
	return ctx
}

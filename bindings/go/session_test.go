package mlxrt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

// start has several chunks of 64 tokens.
var start = strings.Repeat("The capital of France is Paris. The capital of Italy is Rome. ", 12)

// loaded is a model of the test's own.
func loaded(t *testing.T, opts ...mlxrt.LoadOption) *mlxrt.Model {
	t.Helper()
	model, err := mlxrt.Load(context.Background(), demoPath(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	return model
}

func newSession(t *testing.T, model *mlxrt.Model) *mlxrt.Session {
	t.Helper()
	session, err := model.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

// turn answers with a dozen tokens, without ending before.
func turn(t *testing.T, model *mlxrt.Model, prompt string, opts ...mlxrt.GenerateOption) ([]int32, mlxrt.Result) {
	t.Helper()
	stream := model.Stream(context.Background(), prompt,
		append([]mlxrt.GenerateOption{mlxrt.WithMaxTokens(12), mlxrt.WithIgnoreEnd()}, opts...)...)
	var ids []int32
	for token := range stream.Tokens() {
		ids = append(ids, token.ID)
	}
	if err := stream.Err(); err != nil {
		t.Error(err)
	}
	return ids, stream.Result()
}

func tokens(t *testing.T, session *mlxrt.Session) []int32 {
	t.Helper()
	ids, err := session.Tokens()
	if err != nil {
		t.Error(err)
	}
	return ids
}

func TestSessionPrefillsWhatIsNew(t *testing.T) {
	model := loaded(t, mlxrt.WithoutPrefixCache())
	session := newSession(t, model)
	if held := tokens(t, session); len(held) != 0 {
		t.Errorf("a new session holds %v", held)
	}
	first, result := turn(t, model, start, mlxrt.WithSession(session))
	held := tokens(t, session)
	if result.CachedTokens != 0 || len(held) != result.PromptTokens+12 || !slices.Equal(held[len(held)-12:], first) {
		t.Errorf("%+v, %d tokens, of them the answer %v; it was %v", result, len(held), held[len(held)-12:], first)
	}
	// What the last token leads to is not computed yet.
	_, result = turn(t, model, " And so on.", mlxrt.WithSession(session))
	if result.CachedTokens != len(held)-1 || result.PromptTokens <= len(held) {
		t.Errorf("the session held %d tokens: %+v", len(held), result)
	}
	stats := idle(t, model)
	if stats.Sessions != 1 || stats.CachedTokens != uint64(len(held)-1) || stats.PromptTokens <= stats.CachedTokens ||
		stats.KVBudgetBytes == 0 || stats.PrefixEntries != 0 || stats.PrefixBytes != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestSessionChat(t *testing.T) {
	model := loaded(t, mlxrt.WithoutPrefixCache())
	session := newSession(t, model)
	messages := ask("What is the capital of France?")
	stream := model.StreamChat(context.Background(), messages, mlxrt.WithSession(session))
	answer, err := stream.Text()
	if err != nil || !strings.Contains(answer, "Paris") {
		t.Fatalf("%q, %v", answer, err)
	}
	first := stream.Result()
	messages = append(messages, mlxrt.Message{Role: "assistant", Content: answer}, ask("What is the capital of Italy?")[0])
	stream = model.StreamChat(context.Background(), messages, mlxrt.WithSession(session))
	answer, err = stream.Text()
	if r := stream.Result(); err != nil || !strings.Contains(answer, "Rome") || r.CachedTokens < first.PromptTokens {
		t.Errorf("%q, %v, %+v after %+v", answer, err, r, first)
	}
}

func TestSessionRewindAndFork(t *testing.T) {
	model := loaded(t, mlxrt.WithoutPrefixCache())
	session := newSession(t, model)
	first, result := turn(t, model, start, mlxrt.WithSession(session))
	held := tokens(t, session)
	fork, err := session.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer fork.Close()
	if err := fork.Rewind(result.PromptTokens - 1); err != nil {
		t.Fatal(err)
	}
	if now := tokens(t, fork); !slices.Equal(now, held[:result.PromptTokens-1]) || !slices.Equal(tokens(t, session), held) {
		t.Errorf("the fork has %d tokens, the session %d", len(now), len(tokens(t, session)))
	}
	stream := model.StreamIDs(context.Background(), held[result.PromptTokens-1:result.PromptTokens],
		mlxrt.WithSession(fork), mlxrt.WithMaxTokens(12), mlxrt.WithIgnoreEnd())
	var again []int32
	for token := range stream.Tokens() {
		again = append(again, token.ID)
	}
	if r := stream.Result(); stream.Err() != nil || !slices.Equal(again, first) || r.CachedTokens != result.PromptTokens-1 {
		t.Errorf("%v, %v, %+v; at first %v", again, stream.Err(), r, first)
	}
	for _, n := range []int{-1, len(held) + 1} {
		if err := session.Rewind(n); !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Errorf("to %d: %v", n, err)
		}
	}
	if err := session.Rewind(0); err != nil || len(tokens(t, session)) != 0 {
		t.Errorf("%v, %v", tokens(t, session), err)
	}
}

func TestSessionFiles(t *testing.T) {
	model := loaded(t, mlxrt.WithoutPrefixCache())
	session := newSession(t, model)
	turn(t, model, start, mlxrt.WithSession(session))
	held := tokens(t, session)
	path := filepath.Join(t.TempDir(), "session")
	if err := session.Export(path); err != nil {
		t.Fatal(err)
	}
	want, _ := turn(t, model, " And so on.", mlxrt.WithSession(session))
	other := loaded(t)
	again, err := other.ImportSession(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if !slices.Equal(tokens(t, again), held) {
		t.Errorf("%d tokens, exported were %d", len(tokens(t, again)), len(held))
	}
	got, result := turn(t, other, " And so on.", mlxrt.WithSession(again))
	if result.CachedTokens != len(held)-1 || !slices.Equal(got, want) {
		t.Errorf("%v, %+v; without the file %v", got, result, want)
	}
	if err := session.Export(filepath.Join(t.TempDir(), "no", "where")); !errors.Is(err, mlxrt.ErrIO) {
		t.Error(err)
	}
	if _, err := model.ImportSession(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, mlxrt.ErrNotFound) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, err := model.ImportSession(path); broken != nil || !errors.Is(err, mlxrt.ErrBadModel) {
		t.Error(err)
	}
	quantised := loaded(t, mlxrt.WithKVBits(8))
	if err := again.Export(path); err != nil {
		t.Fatal(err)
	}
	if _, err := quantised.ImportSession(path); !errors.Is(err, mlxrt.ErrBadModel) {
		t.Errorf("into a model with another kind of cache: %v", err)
	}
}

func TestSessionBusy(t *testing.T) {
	model := demo(t)
	session := newSession(t, model)
	taken := 0
	stream := model.Stream(context.Background(), start, mlxrt.WithSession(session), mlxrt.WithMaxTokens(200), mlxrt.WithIgnoreEnd())
	for range stream.Tokens() {
		_, err1 := session.Tokens()
		_, err2 := session.Fork()
		_, err3 := model.Stream(context.Background(), "a", mlxrt.WithSession(session)).Text()
		for i, err := range []error{err1, err2, err3, session.Rewind(0), session.Export(filepath.Join(t.TempDir(), "a"))} {
			if !errors.Is(err, mlxrt.ErrBusy) {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if taken++; taken == 3 {
			break
		}
	}
	idle(t, model)
	// What came and nobody took is no part of the conversation.
	if held := tokens(t, session); len(held) != stream.Result().PromptTokens+3 {
		t.Errorf("%d tokens are held: %+v", len(held), stream.Result())
	}
}

func TestSessionClosed(t *testing.T) {
	ctx := context.Background()
	model := ownDemo(t)
	session := newSession(t, model)
	_, err := demo(t).Stream(ctx, "a", mlxrt.WithSession(session)).Text()
	if !errors.Is(err, mlxrt.ErrBadArgument) || !strings.Contains(err.Error(), "another model") {
		t.Error(err)
	}
	for name, call := range map[string]func(*mlxrt.Session) error{
		"batch": func(s *mlxrt.Session) error {
			_, err := model.GenerateBatch(ctx, prompts, mlxrt.WithSession(s))
			return err
		},
		"classify": func(s *mlxrt.Session) error {
			_, err := model.Classify(ctx, prompts, mlxrt.WithSession(s))
			return err
		},
	} {
		if err := call(session); !errors.Is(err, mlxrt.ErrBadArgument) || !strings.Contains(err.Error(), "session") {
			t.Errorf("%s: %v", name, err)
		}
	}
	closed := func(what string, session *mlxrt.Session) {
		_, err1 := session.Tokens()
		_, err2 := session.Fork()
		_, err3 := model.Stream(ctx, "a", mlxrt.WithSession(session)).Text()
		for i, err := range []error{err1, err2, err3, session.Rewind(0), session.Export(filepath.Join(t.TempDir(), "a"))} {
			if !errors.Is(err, mlxrt.ErrClosed) || !strings.Contains(err.Error(), what) {
				t.Errorf("call %d: %v", i, err)
			}
		}
	}
	for range 2 {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
	closed("session is closed", session)
	orphan := newSession(t, model)
	model.Close()
	closed("the model", orphan)
	if _, err := model.NewSession(); !errors.Is(err, mlxrt.ErrClosed) {
		t.Error(err)
	}
	if _, err := model.ImportSession("a"); !errors.Is(err, mlxrt.ErrClosed) {
		t.Error(err)
	}
}

// A session that was forgotten is freed by the garbage collector.
func TestSessionForgotten(t *testing.T) {
	model := loaded(t)
	func() {
		session, err := model.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		turn(t, model, start, mlxrt.WithSession(session))
	}()
	if stats := idle(t, model); stats.Sessions != 1 {
		t.Fatalf("%+v", stats)
	}
	for range 100 {
		runtime.GC()
		turn(t, model, "a", mlxrt.WithMaxTokens(1)) // the figures are those of the last step
		if idle(t, model).Sessions == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the session is still there")
}

// dialogue is a conversation of several turns, otherwise for each kind.
func dialogue(t *testing.T, model *mlxrt.Model, kind int) (answers [][]int32) {
	session, err := model.NewSession()
	if err != nil {
		t.Error(err)
		return nil
	}
	defer session.Close()
	say := func(session *mlxrt.Session, text string) {
		opts := []mlxrt.GenerateOption{mlxrt.WithSession(session)}
		if kind%2 == 1 {
			opts = append(opts, mlxrt.WithTemperature(1.2), mlxrt.WithSeed(uint64(kind)))
		}
		ids, _ := turn(t, model, text, opts...)
		answers = append(answers, ids)
	}
	say(session, start[kind*7:])
	say(session, fmt.Sprintf(" The number %d is", kind))
	fork, err := session.Fork()
	if err != nil {
		t.Error(err)
		return nil
	}
	defer fork.Close()
	if err := session.Rewind(70 + kind); err != nil {
		t.Error(err)
	}
	say(session, " And now")
	say(fork, " Once upon a time")
	return answers
}

func TestSessionsOfManyGoroutines(t *testing.T) {
	model := demo(t)
	const kinds = 8
	var want [kinds][][]int32
	for kind := range kinds {
		want[kind] = dialogue(t, model, kind)
	}
	var group sync.WaitGroup
	for i := range 32 {
		group.Add(1)
		go func() {
			defer group.Done()
			if got := dialogue(t, model, i%kinds); !slices.EqualFunc(got, want[i%kinds], slices.Equal) {
				t.Errorf("goroutine %d: %v; alone: %v", i, got, want[i%kinds])
			}
		}()
	}
	group.Wait()
}

func TestPrefixCache(t *testing.T) {
	model := loaded(t, mlxrt.WithPrefixCache(32<<20))
	first, result := turn(t, model, start+"A")
	if stats := idle(t, model); result.CachedTokens != 0 || stats.PrefixEntries == 0 || stats.PrefixBytes == 0 || stats.PrefixBytes > 32<<20 {
		t.Errorf("%+v, %+v", result, stats)
	}
	_, result = turn(t, model, start+"B")
	if result.CachedTokens < 64 || result.CachedTokens%64 != 0 || idle(t, model).CachedTokens != uint64(result.CachedTokens) {
		t.Errorf("%+v, %+v", result, idle(t, model))
	}
	without := loaded(t, mlxrt.WithoutPrefixCache())
	turn(t, without, start+"A")
	again, result := turn(t, without, start+"A")
	if stats := idle(t, without); result.CachedTokens != 0 || stats.PrefixEntries != 0 || !slices.Equal(again, first) {
		t.Errorf("%v, %+v, %+v; with a cache %v", again, result, stats, first)
	}
}

func TestPrefixCacheDir(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "prefixes")
	for i := range 2 {
		model := loaded(t, mlxrt.WithPrefixCacheDir(folder))
		if _, result := turn(t, model, start); (result.CachedTokens > 0) != (i == 1) {
			t.Errorf("model %d: %+v", i, result)
		}
		model.Close()
	}
}

func TestKVBudget(t *testing.T) {
	model := loaded(t, mlxrt.WithKVBudget(1<<20))
	if stats, err := model.Stats(); err != nil || stats.KVBudgetBytes != 1<<20 {
		t.Errorf("%+v, %v", stats, err)
	}
	_, err := model.Stream(context.Background(), start, mlxrt.WithMaxTokens(700)).Text()
	if !errors.Is(err, mlxrt.ErrOutOfMemory) {
		t.Error(err)
	}
}

func TestKVBits(t *testing.T) {
	for _, bits := range []int{8, 0} {
		model := loaded(t, mlxrt.WithKVBits(bits))
		answer, err := model.StreamChat(context.Background(), ask("What is the capital of France?")).Text()
		if err != nil || !strings.Contains(answer, "Paris") {
			t.Errorf("%d bits: %q, %v", bits, answer, err)
		}
	}
	for _, bits := range []int{-1, 3} {
		if _, err := mlxrt.Load(context.Background(), demoPath(t), mlxrt.WithKVBits(bits)); !errors.Is(err, mlxrt.ErrBadArgument) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestRotatingContext(t *testing.T) {
	run := func(opts ...mlxrt.LoadOption) mlxrt.Result {
		_, result := turn(t, loaded(t, append(opts, mlxrt.WithContextLen(64))...), "Once upon a time", mlxrt.WithMaxTokens(200))
		return result
	}
	if r := run(); r.Finish != mlxrt.FinishContext || r.PromptTokens+r.GeneratedTokens > 65 {
		t.Errorf("%+v", r)
	}
	if r := run(mlxrt.WithRotatingContext(4)); r.Finish != mlxrt.FinishLength || r.GeneratedTokens != 200 {
		t.Errorf("rotating: %+v", r)
	}
	if _, err := mlxrt.Load(context.Background(), demoPath(t), mlxrt.WithRotatingContext(-1)); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
}

package mlxrt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

// longStory makes the demo model talk for a good while.
const longStory = "Tell me a story about a dragon."

// demoPath is the folder of the demo model; without one the test is skipped.
func demoPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("MLXRT_TEST_MODEL")
	if path == "" {
		path = filepath.Join("..", "..", "demo", "model")
	}
	weights, _ := filepath.Glob(filepath.Join(path, "*.safetensors"))
	if len(weights) == 0 {
		fmt.Printf("skipped: %s: no demo model in %s (MLXRT_TEST_MODEL names another folder)\n", t.Name(), path)
		t.SkipNow()
	}
	return path
}

var shared = struct {
	once  sync.Once
	model *mlxrt.Model
	err   error
}{}

// demo is a model that the tests share; it stays open.
func demo(t *testing.T) *mlxrt.Model {
	t.Helper()
	path := demoPath(t)
	shared.once.Do(func() { shared.model, shared.err = mlxrt.Load(context.Background(), path) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.model
}

// ownDemo is a model that the test may close.
func ownDemo(t *testing.T) *mlxrt.Model {
	t.Helper()
	model, err := mlxrt.Load(context.Background(), demoPath(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	return model
}

type question struct{ Kind, Question, Expect string }

// questions are a few of each kind that has one right answer: the library's own tests ask them all.
func questions(t *testing.T) []question {
	t.Helper()
	path := filepath.Join(demoPath(t), "..", "questions.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Printf("skipped: %s: no %s\n", t.Name(), path)
		t.SkipNow()
	}
	if err != nil {
		t.Fatal(err)
	}
	var all, some []question
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{"stories": 3}
	for _, q := range all {
		if count[q.Kind]++; count[q.Kind] <= 3 {
			some = append(some, q)
		}
	}
	return some
}

func ask(text string) []mlxrt.Message { return []mlxrt.Message{{Role: "user", Content: text}} }

// within fails the test if it takes longer than something that should be quick.
func within(t *testing.T, limit time.Duration, what string, do func()) {
	t.Helper()
	start := time.Now()
	do()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %v", what, took)
	}
}

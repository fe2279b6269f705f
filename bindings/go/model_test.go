package mlxrt_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func TestLoadFails(t *testing.T) {
	ctx := context.Background()
	missing := filepath.Join(t.TempDir(), "nowhere")
	for name, test := range map[string]struct {
		path string
		want mlxrt.Status
		opts []mlxrt.LoadOption
	}{
		"missing folder":   {missing, mlxrt.ErrNotFound, nil},
		"negative context": {missing, mlxrt.ErrBadArgument, []mlxrt.LoadOption{mlxrt.WithContextLen(-1)}},
	} {
		model, err := mlxrt.Load(ctx, test.path, test.opts...)
		if model != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mlxrt.Load(ctx, missing); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("the message does not name the folder: %v", err)
	}
}

func TestInfo(t *testing.T) {
	model := ownDemo(t)
	info := model.Info()
	if info.Architecture == "" || info.Architecture != model.ModelType() || info.VocabSize <= 0 ||
		info.NumLayers <= 0 || info.HiddenSize <= 0 || info.NumHeads <= 0 || info.NumKVHeads <= 0 ||
		info.HeadDim <= 0 || info.ContextLen <= 0 || info.Parameters == 0 || info.WeightBytes == 0 ||
		!info.HasChatTemplate || info.Device == mlxrt.DeviceAuto || info.DType == mlxrt.DTypeAuto {
		t.Errorf("info: %+v", info)
	}
	model.Close()
	if model.Info() != info {
		t.Error("info is gone after Close")
	}
}

func TestProgress(t *testing.T) {
	var calls int
	var last, all uint64
	model, err := mlxrt.Load(context.Background(), demoPath(t), mlxrt.WithDevice(mlxrt.DeviceCPU),
		mlxrt.WithDType(mlxrt.DTypeFloat32), mlxrt.WithProgress(func(done, total uint64) {
			if done < last || done > total {
				t.Errorf("%d of %d after %d", done, total, last)
			}
			calls, last, all = calls+1, done, total
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	if calls == 0 || last != all || all == 0 {
		t.Errorf("%d calls, the last says %d of %d", calls, last, all)
	}
}

func TestCancelLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	model, err := mlxrt.Load(ctx, demoPath(t), mlxrt.WithProgress(func(uint64, uint64) { cancel() }))
	if model != nil || err != context.Canceled {
		t.Errorf("%v, %v", model, err)
	}
}

func TestProgressPanics(t *testing.T) {
	path := demoPath(t)
	defer func() {
		if recover() != "mine" {
			t.Error("the panic did not come through")
		}
	}()
	mlxrt.Load(context.Background(), path, mlxrt.WithProgress(func(uint64, uint64) { panic("mine") }))
}

func TestContextLen(t *testing.T) {
	model, err := mlxrt.Load(context.Background(), demoPath(t), mlxrt.WithContextLen(128))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	if got := model.Info().ContextLen; got != 128 {
		t.Errorf("ContextLen is %d", got)
	}
	stream := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithIgnoreEnd(), mlxrt.WithMaxTokens(1000))
	if _, err := stream.Text(); err != nil || stream.Result().Finish != mlxrt.FinishContext {
		t.Errorf("%v, %+v", err, stream.Result())
	}
}

func TestUseAfterClose(t *testing.T) {
	model := ownDemo(t)
	for range 2 {
		if err := model.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err1 := model.Tokenize("a", false)
	_, err2 := model.Detokenize([]int32{1}, false)
	_, err3 := model.RenderChat(ask("a"), mlxrt.ChatConfig{})
	_, err4 := model.Stream(context.Background(), "a").Text()
	for range model.Chat(context.Background(), ask("a")) {
		t.Error("a closed model answers")
	}
	for i, err := range []error{err1, err2, err3, err4, model.Err()} {
		if !errors.Is(err, mlxrt.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestCloseDuringGeneration(t *testing.T) {
	t.Run("in the loop", func(t *testing.T) {
		model := ownDemo(t)
		stream := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithIgnoreEnd(), mlxrt.WithMaxTokens(900))
		for range stream.Tokens() {
			model.Close()
		}
		if !errors.Is(stream.Err(), mlxrt.ErrClosed) {
			t.Errorf("%v, %+v", stream.Err(), stream.Result())
		}
	})
	t.Run("on other goroutines", func(t *testing.T) {
		model := ownDemo(t)
		var group sync.WaitGroup
		for range 8 {
			group.Add(1)
			go func() {
				defer group.Done()
				for { // sooner or later one of them meets the closing model between two calls
					_, err := model.StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(2)).Text()
					if err != nil {
						if !errors.Is(err, mlxrt.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			}()
		}
		time.Sleep(50 * time.Millisecond)
		within(t, 10*time.Second, "closing", func() {
			var closers sync.WaitGroup
			for range 4 {
				closers.Add(1)
				go func() { defer closers.Done(); model.Close() }()
			}
			closers.Wait()
			group.Wait()
		})
	})
}

// A model that was forgotten is freed by the garbage collector.
func TestForgotten(t *testing.T) {
	demo(t) // MLX is up and the shared model does not appear in between
	before := mlxrt.GetActiveMemory()
	func() {
		model, err := mlxrt.Load(context.Background(), demoPath(t))
		if err != nil {
			t.Fatal(err)
		}
		model.StreamChat(context.Background(), ask(longStory), mlxrt.WithMaxTokens(2)).Text()
	}()
	if now := mlxrt.GetActiveMemory(); now <= before {
		t.Fatalf("%d bytes before loading, %d after", before, now)
	}
	for range 100 {
		runtime.GC()
		if mlxrt.GetActiveMemory() <= before {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d bytes before, %d after collection", before, mlxrt.GetActiveMemory())
}

package mlxrt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

// absDemo is the demo model's folder, as a link can name it.
func absDemo(t *testing.T) string {
	path, err := filepath.Abs(demoPath(t))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDiscover(t *testing.T) {
	ctx := context.Background()
	folder := t.TempDir()
	broken := filepath.Join(folder, "broken")
	if err := errors.Join(
		os.Symlink(absDemo(t), filepath.Join(folder, "demo")),
		os.Mkdir(broken, 0o700),
		os.WriteFile(filepath.Join(broken, "config.json"), []byte("{"), 0o600),
		os.WriteFile(filepath.Join(broken, "tokenizer.json"), []byte("{}"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	found, err := mlxrt.Discover(ctx, folder)
	if err != nil || len(found) != 2 {
		t.Fatalf("%+v, %v", found, err)
	}
	if found[0].Path != broken || !errors.Is(found[0].Problem, mlxrt.ErrBadModel) {
		t.Errorf("%+v", found[0])
	}
	info := demo(t).Info()
	entry := found[1]
	if entry.Problem != nil || entry.Architecture != info.Architecture || entry.QuantBits != info.QuantBits ||
		entry.QuantGroup != info.QuantGroup || entry.ContextLen != info.ContextLen || entry.WeightBytes == 0 ||
		entry.QuantMode != mlxrt.QuantAffine || entry.QuantName != "affine" || entry.ID != "" ||
		entry.Path != filepath.Join(folder, "demo") {
		t.Errorf("%+v", entry)
	}
}

// The folder is laid out as huggingface_hub does it.
func TestDiscoverCache(t *testing.T) {
	ctx := context.Background()
	cache := t.TempDir()
	t.Setenv("HF_HUB_CACHE", cache)
	if found, err := mlxrt.Discover(ctx, ""); err != nil || len(found) != 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	repository := filepath.Join(cache, "models--org--demo")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(repository, "snapshots"), 0o700),
		os.Mkdir(filepath.Join(repository, "refs"), 0o700),
		os.WriteFile(filepath.Join(repository, "refs", "main"), []byte("c0ffee"), 0o600),
		os.Symlink(absDemo(t), filepath.Join(repository, "snapshots", "c0ffee")),
	); err != nil {
		t.Fatal(err)
	}
	found, err := mlxrt.Discover(ctx, t.TempDir(), mlxrt.WithCache(), mlxrt.WithMaxDepth(3))
	if err != nil || len(found) != 1 || found[0].ID != "org/demo" || found[0].Problem != nil {
		t.Fatalf("%+v, %v", found, err)
	}
	model, err := mlxrt.Load(ctx, "org/demo", mlxrt.WithDownload()) // it is there: nothing is downloaded
	if err != nil {
		t.Fatal(err)
	}
	model.Close()
}

func TestDiscoverFails(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := mlxrt.Discover(ctx, filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, mlxrt.ErrNotFound) {
		t.Error(err)
	}
	if _, err := mlxrt.Discover(ctx, ".", mlxrt.WithMaxDepth(-1)); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
	cancel()
	if _, err := mlxrt.Discover(ctx, t.TempDir()); err != context.Canceled {
		t.Error(err)
	}
}

package mlxrt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func TestConvert(t *testing.T) {
	source := demoPath(t)
	destination := filepath.Join(t.TempDir(), "copy")
	ctx, cancel := context.WithCancel(context.Background())
	stop := mlxrt.ConvertConfig{Progress: func(uint64, uint64) { cancel() }}
	if err := mlxrt.Convert(ctx, source, destination, stop); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	quantise := mlxrt.ConvertConfig{Mode: mlxrt.QuantAffine, Bits: 8}
	if err := mlxrt.Convert(context.Background(), source, destination, quantise); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Errorf("quantised twice: %v", err)
	}
	if _, err := os.Stat(destination); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}
	var last, all uint64
	count := mlxrt.ConvertConfig{Progress: func(done, total uint64) { last, all = done, total }}
	if err := mlxrt.Convert(context.Background(), source, destination, count); err != nil {
		t.Fatal(err)
	}
	if last != all || all == 0 {
		t.Errorf("the last progress says %d of %d", last, all)
	}
	model, err := mlxrt.Load(context.Background(), destination)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	if info := model.Info(); info.QuantMode != mlxrt.QuantAffine || info.QuantBits != 4 || info.UnusedTensors != 0 {
		t.Errorf("info: %+v", info)
	}
}

package mlxrt_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	mlxrt "github.com/mlxrt/mlxrt/bindings/go"
)

func TestVersion(t *testing.T) {
	if mlxrt.Version() == "" || mlxrt.BuildInfo() == "" {
		t.Errorf("version %q, build %q", mlxrt.Version(), mlxrt.BuildInfo())
	}
}

func TestStatus(t *testing.T) {
	if got := mlxrt.ErrNotFound.String(); got != "NOT_FOUND" {
		t.Error(got)
	}
	err := error(&mlxrt.Error{Status: mlxrt.ErrNotFound, Message: "no such folder"})
	if !errors.Is(err, mlxrt.ErrNotFound) || errors.Is(err, mlxrt.ErrClosed) ||
		!strings.Contains(err.Error(), "no such folder") {
		t.Error(err)
	}
	if mlxrt.ErrIO.String() != "IO" || mlxrt.ErrNetwork.String() != "NETWORK" {
		t.Error(mlxrt.ErrIO, mlxrt.ErrNetwork)
	}
}

func TestDevices(t *testing.T) {
	cpu, err := mlxrt.GetDeviceInfo(mlxrt.DeviceCPU)
	if err != nil || cpu.Device != mlxrt.DeviceCPU || !cpu.Available || cpu.Name == "" {
		t.Errorf("%+v, %v", cpu, err)
	}
	best, err := mlxrt.GetDeviceInfo(mlxrt.DeviceAuto)
	if err != nil || best.Device == mlxrt.DeviceAuto || !best.Available {
		t.Errorf("%+v, %v", best, err)
	}
	gpu, err := mlxrt.GetDeviceInfo(mlxrt.DeviceGPU)
	if err != nil || gpu.Device != mlxrt.DeviceGPU || gpu.Available != (best.Device == mlxrt.DeviceGPU) {
		t.Errorf("%+v, %v", gpu, err)
	}
	if _, err := mlxrt.GetDeviceInfo(99); !errors.Is(err, mlxrt.ErrBadArgument) {
		t.Error(err)
	}
}

func TestMemory(t *testing.T) {
	model, err := mlxrt.Load(context.Background(), demoPath(t), mlxrt.WithNoMmap(), mlxrt.WithExact(), mlxrt.WithThreads(2))
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	if active := mlxrt.GetActiveMemory(); active < model.Info().WeightBytes {
		t.Errorf("%d bytes are active, the weights have %d", active, model.Info().WeightBytes)
	}
	if err := errors.Join(mlxrt.ResetPeakMemory(), mlxrt.ClearCache()); err != nil {
		t.Error(err)
	}
	if mlxrt.GetPeakMemory() < model.Info().WeightBytes {
		t.Errorf("the peak is %d", mlxrt.GetPeakMemory())
	}
	mlxrt.GetCacheMemory()
	before, err := mlxrt.SetMemoryLimit(1 << 40)
	if err != nil {
		t.Fatal(err)
	}
	if previous, err := mlxrt.SetMemoryLimit(before); err != nil || previous != 1<<40 {
		t.Errorf("the limit until now was %d, %v", previous, err)
	}
	for name, set := range map[string]func(uint64) (uint64, error){
		"cache": mlxrt.SetCacheLimit, "wired": mlxrt.SetWiredLimit,
	} {
		before, err := set(0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := set(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

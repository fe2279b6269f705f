package mlxrt

// #include <mlxrt.h>
import "C"

import "unsafe"

// Device is something to compute on.
type Device int32

// The devices.
const (
	DeviceAuto Device = C.MLXRT_DEVICE_AUTO // the GPU where MLX has one, else the CPU
	DeviceCPU  Device = C.MLXRT_DEVICE_CPU  // the host's processors
	DeviceGPU  Device = C.MLXRT_DEVICE_GPU  // the first Metal or CUDA device
)

// String is "auto", "cpu" or "gpu".
func (d Device) String() string {
	switch d {
	case DeviceAuto:
		return "auto"
	case DeviceCPU:
		return "cpu"
	case DeviceGPU:
		return "gpu"
	}
	return "unknown"
}

// DType is the type that a model computes in.
type DType int32

// The types.
const (
	DTypeAuto     DType = C.MLXRT_DTYPE_AUTO     // float32 on the CPU, the checkpoint's own on a GPU
	DTypeFloat32  DType = C.MLXRT_DTYPE_FLOAT32  // 32-bit floats
	DTypeFloat16  DType = C.MLXRT_DTYPE_FLOAT16  // 16-bit floats
	DTypeBFloat16 DType = C.MLXRT_DTYPE_BFLOAT16 // 16-bit floats with the range of 32-bit ones
)

// String is "auto", "float32", "float16" or "bfloat16".
func (d DType) String() string {
	switch d {
	case DTypeAuto:
		return "auto"
	case DTypeFloat32:
		return "float32"
	case DTypeFloat16:
		return "float16"
	case DTypeBFloat16:
		return "bfloat16"
	}
	return "unknown"
}

// DeviceInfo describes a device.
type DeviceInfo struct {
	Device      Device // never DeviceAuto
	Available   bool   // whether MLX can use it here
	MemoryBytes uint64 // 0 where MLX does not say
	Name        string
}

// GetDeviceInfo describes a device; DeviceAuto stands for the one that a model would be loaded on. A
// device that is not there is described as not available, which is no error.
func GetDeviceInfo(device Device) (DeviceInfo, error) {
	desc := C.mlxrt_device_desc{struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_device_desc{}))}
	if err := check(func() C.mlxrt_status { return C.mlxrt_device_info(C.int32_t(device), &desc) }); err != nil {
		return DeviceInfo{}, err
	}
	return DeviceInfo{
		Device:      Device(desc.device),
		Available:   desc.available != 0,
		MemoryBytes: uint64(desc.memory_bytes),
		Name:        C.GoString(desc.name),
	}, nil
}

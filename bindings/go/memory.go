package mlxrt

// #include <mlxrt.h>
import "C"

// Memory is counted in bytes and for the whole process, all models together.

// GetActiveMemory is what MLX's arrays use: weights, caches and work in progress.
func GetActiveMemory() uint64 {
	return read(func(out *C.uint64_t) C.mlxrt_status { return C.mlxrt_memory_active(out) })
}

// GetPeakMemory is the most that was active since the start or the last ResetPeakMemory.
func GetPeakMemory() uint64 {
	return read(func(out *C.uint64_t) C.mlxrt_status { return C.mlxrt_memory_peak(out) })
}

// GetCacheMemory is what MLX keeps for reuse after arrays were freed. MLX's CPU build keeps none.
func GetCacheMemory() uint64 {
	return read(func(out *C.uint64_t) C.mlxrt_status { return C.mlxrt_memory_cache(out) })
}

// SetCacheLimit limits what MLX keeps for reuse (0: nothing) and returns the limit until now.
func SetCacheLimit(bytes uint64) (previous uint64, err error) {
	return set(func(out *C.uint64_t) C.mlxrt_status {
		return C.mlxrt_memory_set_cache_limit(C.uint64_t(bytes), out)
	})
}

// SetMemoryLimit limits MLX's memory and returns the limit until now. It is a guideline: above it
// allocations first give kept memory back and wait for running work.
func SetMemoryLimit(bytes uint64) (previous uint64, err error) {
	return set(func(out *C.uint64_t) C.mlxrt_status {
		return C.mlxrt_memory_set_limit(C.uint64_t(bytes), out)
	})
}

// SetWiredLimit limits the memory that macOS keeps wired for the GPU and returns the limit until
// now. It has no effect on other systems.
func SetWiredLimit(bytes uint64) (previous uint64, err error) {
	return set(func(out *C.uint64_t) C.mlxrt_status {
		return C.mlxrt_memory_set_wired_limit(C.uint64_t(bytes), out)
	})
}

// ClearCache gives what MLX keeps for reuse back to the system.
func ClearCache() error {
	return check(func() C.mlxrt_status { return C.mlxrt_memory_clear_cache() })
}

// ResetPeakMemory starts the peak anew from what is active now.
func ResetPeakMemory() error {
	return check(func() C.mlxrt_status { return C.mlxrt_memory_reset_peak() })
}

// read is for numbers that go-mlx returns without an error: 0 stands for "MLX did not say".
func read(call func(*C.uint64_t) C.mlxrt_status) uint64 {
	value, _ := set(call)
	return value
}

func set(call func(*C.uint64_t) C.mlxrt_status) (uint64, error) {
	var value C.uint64_t
	err := check(func() C.mlxrt_status { return call(&value) })
	return uint64(value), err
}

// Arrays over memory that MLX did not allocate: the way that mlx-c has for it copies on the CPU build.
#include "mlx/allocator.h"
#include "mlx/c/private/mlx.h"

#include <cstddef>
#include <exception>

using mlx::core::allocator::Buffer;

// MLX's CPU allocator keeps the size of an allocation right before its data, and its buffers point to
// that: so a buffer that points one word before any memory stands for it. Other allocators differ.
extern "C" bool shim_can_map() {
  try {
    Buffer buffer = mlx::core::allocator::malloc(64);
    auto before = static_cast<char*>(buffer.ptr());
    bool plain = before && before + sizeof(size_t) == buffer.raw_ptr();
    mlx::core::allocator::free(buffer);
    return plain;
  } catch (const std::exception&) {
    return false;
  }
}

// Calls release(owner) when the last array that uses the data is gone. The word before the data must be
// readable. Without memory for the few bytes of the array itself returns 1 and never releases.
extern "C" int shim_map_array(
    mlx_array* out,
    char* data,
    const int* shape,
    size_t dims,
    mlx_dtype dtype,
    void* owner,
    void (*release)(void*)) {
  try {
    mlx_array_set_(
        *out,
        mlx::core::array(
            Buffer(data - sizeof(size_t)),
            mlx::core::Shape(shape, shape + dims),
            mlx_dtype_to_cpp(dtype),
            [owner, release](Buffer) { release(owner); }));
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

// Puts `data` in the place of an evaluated array's, for all who share the array. The word before the data must be
// writable; release(owner) as above.
extern "C" int shim_replace_data(mlx_array array, char* data, void* owner, void (*release)(void*)) {
  try {
    mlx::core::array& a = mlx_array_get_(array);
    Buffer buffer(data - sizeof(size_t));
    *static_cast<size_t*>(buffer.ptr()) = a.nbytes();
    a.set_data(buffer, [owner, release](Buffer) { release(owner); });
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

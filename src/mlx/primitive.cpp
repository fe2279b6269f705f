// An operation of MLX's graph that a Rust function computes on the CPU: primitive.rs is its other side.

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

extern "C" {

struct mlxrt_bytes {
  void* data;
  size_t size;
};

// Rust's side. `run` returns nonzero after writing a message; neither function throws or panics.
struct mlxrt_kernel {
  void* state;
  int (*run)(const void* state, const mlxrt_bytes* inputs, size_t count, mlxrt_bytes output, char* message,
             size_t size);
  void (*free)(void* state);
};
}

namespace {

using namespace mlx::core;

struct Owned {
  mlxrt_kernel kernel;
  explicit Owned(mlxrt_kernel kernel) : kernel(kernel) {}
  Owned(const Owned&) = delete;
  ~Owned() { kernel.free(kernel.state); }
};

// An input as MLX holds it, and room for its elements row by row if they lie otherwise.
struct Input {
  char* data;
  size_t bytes;
  size_t item;
  Shape shape;
  Strides strides;
  std::unique_ptr<char[]> copy;

  explicit Input(const array& in)
      : data(const_cast<char*>(in.data<char>())), bytes(in.nbytes()), item(in.itemsize()) {
    // A view of bytes as words may lie anywhere.
    bool aligned = reinterpret_cast<std::uintptr_t>(data) % item == 0;
    if (!in.flags().row_contiguous || !aligned) {
      shape = in.shape();
      strides = in.strides();
      copy.reset(new char[bytes]);
    }
  }

  mlxrt_bytes rows() {
    if (copy) {
      char* out = copy.get();
      gather(data, 0, out);
      return {copy.get(), bytes};
    }
    return {data, bytes};
  }

  void gather(const char* from, size_t axis, char*& out) {
    if (axis == shape.size()) {
      std::memcpy(out, from, item);
      out += item;
      return;
    }
    for (ShapeElem i = 0; i < shape[axis]; ++i, from += strides[axis] * static_cast<int64_t>(item)) {
      gather(from, axis + 1, out);
    }
  }
};

class RustPrimitive : public UnaryPrimitive {
 public:
  RustPrimitive(Stream stream, std::shared_ptr<Owned> owned)
      : UnaryPrimitive(stream), owned_(std::move(owned)) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    out.set_data(allocator::malloc(out.nbytes()));
    // MLX keeps the arrays' memory until the task has run, and std::function wants a copyable task.
    auto sources = std::make_shared<std::vector<Input>>();
    for (const array& in : inputs) {
      sources->emplace_back(in);
    }
    mlxrt_bytes output{out.data<char>(), out.nbytes()};
    cpu::get_command_encoder(stream()).dispatch([owned = owned_, sources, output] {
      std::vector<mlxrt_bytes> views;
      for (Input& source : *sources) {
        views.push_back(source.rows());
      }
      char message[256] = "";
      const mlxrt_kernel& kernel = owned->kernel;
      if (kernel.run(kernel.state, views.data(), views.size(), output, message, sizeof message) != 0) {
        // MLX gives it to whoever waits for the stream next.
        throw std::runtime_error(message);
      }
    });
  }

  void eval_gpu(const std::vector<array>&, array&) override {
    throw std::runtime_error("a CPU kernel on another device");
  }

  const char* name() const override { return "RustPrimitive"; }

 private:
  std::shared_ptr<Owned> owned_;
};

} // namespace

// Takes `kernel` over, also when it fails.
extern "C" __attribute__((visibility("hidden"))) int mlxrt_primitive(
    mlx_array* result, mlxrt_kernel kernel, const mlx_array* inputs, size_t count, const int* shape,
    size_t axes, mlx_dtype dtype, mlx_stream stream) {
  try {
    auto owned = std::make_shared<Owned>(kernel);
    std::vector<array> arrays;
    for (size_t i = 0; i < count; ++i) {
      arrays.push_back(mlx_array_get_(inputs[i]));
    }
    auto primitive = std::make_shared<RustPrimitive>(mlx_stream_get_(stream), std::move(owned));
    mlx_array_set_(*result, array(Shape(shape, shape + axes), mlx_dtype_to_cpp(dtype), std::move(primitive),
                                  std::move(arrays)));
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
  return 0;
}

// An operation of MLX's graph that a Rust function computes on the CPU: primitive.rs is its other side.

#include <algorithm>
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

// Memory from an array's first element to its last, and where the elements lie in it. Strides count elements.
struct mlxrt_view {
  void* data;
  size_t size;
  const int* shape;
  const int64_t* strides;
  size_t axes;
};

// Rust's side. `run` returns nonzero after writing a message; neither function throws or panics.
struct mlxrt_kernel {
  void* state;
  int (*run)(const void* state, const mlxrt_view* inputs, size_t count, const mlxrt_view* outputs,
             size_t output_count, char* message, size_t size);
  void (*free)(void* state);
  // Whether inputs may come as they lie in memory; otherwise they come row by row.
  bool as_they_lie;
  // The input that becomes the first output, in its memory if nothing else uses that; -1: none.
  int in_place;
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

Strides row_by_row(const Shape& shape) {
  Strides strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

// An input as MLX holds it, and room for its elements row by row if they have to lie so and do not.
struct Input {
  char* data;
  size_t item;
  Shape shape;
  Strides strides;
  size_t elements = 1;
  std::unique_ptr<char[]> copy;

  Input(const array& in, bool as_they_lie)
      : data(const_cast<char*>(in.data<char>())), item(in.itemsize()), shape(in.shape()), strides(in.strides()) {
    // A view of bytes as words may lie anywhere.
    bool aligned = reinterpret_cast<std::uintptr_t>(data) % item == 0;
    bool forwards = true;
    int64_t last = 0;
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      forwards = forwards && strides[axis] >= 0;
      last += std::max<int64_t>(shape[axis] - 1, 0) * strides[axis];
    }
    if (in.flags().row_contiguous && aligned) {
      strides = row_by_row(shape);
    } else if (!as_they_lie || !aligned || !forwards) {
      copy.reset(new char[in.nbytes()]);
    } else {
      elements = static_cast<size_t>(last) + 1;
    }
    if (in.size() == 0 || copy || in.flags().row_contiguous) {
      elements = in.size();
    }
  }

  mlxrt_view view() {
    if (copy) {
      char* out = copy.get();
      gather(data, 0, out);
      strides = row_by_row(shape);
      data = copy.get();
    }
    return {data, elements * item, shape.data(), strides.data(), shape.size()};
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

class RustPrimitive : public Primitive {
 public:
  RustPrimitive(Stream stream, std::shared_ptr<Owned> owned) : Primitive(stream), owned_(std::move(owned)) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    const mlxrt_kernel& kernel = owned_->kernel;
    bool taken = false;
    if (kernel.in_place >= 0) {
      const array& in = inputs.at(kernel.in_place);
      taken = in.is_donatable() && in.flags().row_contiguous && in.nbytes() == outputs.at(0).nbytes() &&
              in.data_size() == in.size();
      if (taken) {
        outputs[0].copy_shared_buffer(in);
      }
    }
    std::vector<mlxrt_view> results;
    for (array& out : outputs) {
      if (!taken || &out != &outputs[0]) {
        out.set_data(allocator::malloc(out.nbytes()));
      }
      results.push_back({out.data<char>(), out.nbytes(), nullptr, nullptr, 0});
    }
    // MLX keeps the arrays' memory until the task has run, and std::function wants a copyable task.
    auto sources = std::make_shared<std::vector<Input>>();
    for (const array& in : inputs) {
      sources->emplace_back(in, kernel.as_they_lie);
    }
    cpu::get_command_encoder(stream()).dispatch([owned = owned_, sources, results, taken] {
      const mlxrt_kernel& kernel = owned->kernel;
      std::vector<mlxrt_view> views;
      for (Input& source : *sources) {
        views.push_back(source.view());
      }
      if (kernel.in_place >= 0) {
        mlxrt_view& old = views[kernel.in_place];
        if (!taken) {
          Input& source = (*sources)[kernel.in_place];
          char* to = static_cast<char*>(results[0].data);
          if (source.strides == row_by_row(source.shape)) {
            std::memcpy(to, old.data, results[0].size);
          } else {
            source.gather(source.data, 0, to);
          }
        }
        old.size = 0; // it is the output now
      }
      char message[256] = "";
      if (kernel.run(kernel.state, views.data(), views.size(), results.data(), results.size(), message,
                     sizeof message) != 0) {
        // MLX gives it to whoever waits for the stream next.
        throw std::runtime_error(message);
      }
    });
  }

  void eval_gpu(const std::vector<array>&, std::vector<array>&) override {
    throw std::runtime_error("a CPU kernel on another device");
  }

  const char* name() const override { return "RustPrimitive"; }

 private:
  std::shared_ptr<Owned> owned_;
};

} // namespace

// Takes `kernel` over, also when it fails. `shapes` are those of the results behind each other, each of so
// many `axes`. The results are float32.
extern "C" __attribute__((visibility("hidden"))) int mlxrt_primitive(
    mlx_array* results, size_t result_count, mlxrt_kernel kernel, const mlx_array* inputs, size_t count,
    const int* shapes, const size_t* axes, mlx_stream stream) {
  try {
    auto owned = std::make_shared<Owned>(kernel);
    std::vector<array> arrays;
    for (size_t i = 0; i < count; ++i) {
      arrays.push_back(mlx_array_get_(inputs[i]));
    }
    std::vector<Shape> result_shapes;
    for (size_t i = 0; i < result_count; shapes += axes[i], ++i) {
      result_shapes.emplace_back(shapes, shapes + axes[i]);
    }
    auto primitive = std::make_shared<RustPrimitive>(mlx_stream_get_(stream), std::move(owned));
    std::vector<Dtype> types(result_count, float32);
    auto made = array::make_arrays(std::move(result_shapes), types, primitive, arrays);
    for (size_t i = 0; i < result_count; ++i) {
      mlx_array_set_(results[i], std::move(made[i]));
    }
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
  return 0;
}

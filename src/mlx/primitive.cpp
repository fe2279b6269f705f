// An operation of MLX's graph that a Rust function computes on the CPU: primitive.rs is its other side.

#include <cstdint>
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

// An array's elements in memory: `data` is the first one's place, strides count elements.
struct mlxrt_view {
  void* data;
  size_t item;
  size_t size;
  const int* shape;
  const int64_t* strides;
  size_t axes;
  bool in_rows;
};

// Rust's side. `run` and `vjp` return nonzero after writing a message; no function throws or panics.
struct mlxrt_kernel {
  void* state;
  int (*run)(const void* state, const mlxrt_view* inputs, size_t count, const mlxrt_view* outputs,
             size_t output_count, char* message, size_t size);
  // Takes the handles over, and fills `results`, one for each of `wanted`.
  int (*vjp)(const void* state, const mlx_array* inputs, size_t count, const mlx_array* cotangents,
             size_t output_count, const int* wanted, mlx_array* results, size_t result_count, char* message,
             size_t size);
  void (*free)(void* state);
  // Whether the first input becomes the first output: in its memory if nothing else uses that.
  bool in_place;
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

std::vector<mlxrt_view> views(const std::vector<array>& arrays) {
  std::vector<mlxrt_view> views;
  views.reserve(arrays.size());
  for (const array& a : arrays) {
    views.push_back({const_cast<char*>(a.data<char>()), a.itemsize(), a.size(), a.shape().data(),
                     a.strides().data(), a.ndim(), a.flags().row_contiguous});
  }
  return views;
}

// Gives the outputs memory.
void place(const mlxrt_kernel& kernel, const std::vector<array>& inputs, std::vector<array>& outputs) {
  for (array& out : outputs) {
    if (kernel.in_place && &out == &outputs[0]) {
      const array& in = inputs.at(0);
      if (in.is_donatable() && in.flags().row_contiguous && in.data_size() == in.size() &&
          in.nbytes() == out.nbytes()) {
        out.copy_shared_buffer(in);
        continue;
      }
    }
    out.set_data(allocator::malloc(out.nbytes()));
  }
}

void run(const mlxrt_kernel& kernel, const std::vector<array>& inputs, const std::vector<array>& outputs) {
  auto ins = views(inputs), outs = views(outputs);
  char message[256] = "";
  if (kernel.run(kernel.state, ins.data(), ins.size(), outs.data(), outs.size(), message, sizeof message) != 0) {
    throw std::runtime_error(message);
  }
}

class RustPrimitive : public Primitive {
 public:
  RustPrimitive(Stream stream, std::shared_ptr<Owned> owned) : Primitive(stream), owned_(std::move(owned)) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    place(owned_->kernel, inputs, outputs);
    // MLX keeps the arrays' memory until the task has run.
    auto weak = [](const std::vector<array>& arrays) {
      auto copies = std::make_shared<std::vector<array>>();
      for (const array& a : arrays) {
        copies->push_back(array::unsafe_weak_copy(a));
      }
      return copies;
    };
    cpu::get_command_encoder(stream()).dispatch([owned = owned_, ins = weak(inputs), outs = weak(outputs)] {
      run(owned->kernel, *ins, *outs); // MLX gives what it throws to whoever waits for the stream next
    });
  }

  void eval_gpu(const std::vector<array>&, std::vector<array>&) override {
    throw std::runtime_error("a CPU kernel on another device");
  }

  std::vector<array> vjp(const std::vector<array>& primals, const std::vector<array>& cotangents,
                         const std::vector<int>& wanted, const std::vector<array>&) override {
    const mlxrt_kernel& kernel = owned_->kernel;
    std::vector<mlx_array> ins, outs, results(wanted.size(), mlx_array_new_());
    for (const array& a : primals) {
      ins.push_back(mlx_array_new_(a));
    }
    for (const array& a : cotangents) {
      outs.push_back(mlx_array_new_(a));
    }
    char message[256] = "";
    if (kernel.vjp(kernel.state, ins.data(), ins.size(), outs.data(), outs.size(), wanted.data(), results.data(),
                   results.size(), message, sizeof message) != 0) {
      throw std::runtime_error(message);
    }
    std::vector<array> gradients;
    for (mlx_array result : results) {
      gradients.push_back(mlx_array_get_(result));
      mlx_array_free_(result);
    }
    return gradients;
  }

  const char* name() const override { return "RustPrimitive"; }

 private:
  std::shared_ptr<Owned> owned_;
};

// Whether all are computed, and no gradient is wanted of what is computed with them.
bool ready(const std::vector<array>& arrays) {
  for (const array& a : arrays) {
    if (!a.is_available() || a.is_tracer()) {
      return false;
    }
  }
  return true;
}

} // namespace

// Takes `kernel` over, also when it fails, and of an in-place kernel the first input, whose handle is then only
// good for freeing. `shapes` are those of the results behind each other, each of so many `axes`. The results are
// float32. If the inputs are computed the results are too, on this thread; otherwise they are nodes of the graph.
extern "C" __attribute__((visibility("hidden"))) int mlxrt_primitive(
    mlx_array* results, size_t result_count, mlxrt_kernel kernel, const mlx_array* inputs, size_t count,
    const int* shapes, const size_t* axes, mlx_stream stream) {
  try {
    auto owned = std::make_shared<Owned>(kernel);
    std::vector<array> arrays;
    arrays.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      array& in = mlx_array_get_(inputs[i]);
      arrays.push_back(kernel.in_place && i == 0 ? std::move(in) : in);
    }
    std::vector<Shape> result_shapes;
    for (size_t i = 0; i < result_count; shapes += axes[i], ++i) {
      result_shapes.emplace_back(shapes, shapes + axes[i]);
    }
    std::vector<array> made;
    if (ready(arrays)) {
      for (Shape& shape : result_shapes) {
        made.push_back(array(std::move(shape), float32, nullptr, {}));
      }
      place(kernel, arrays, made);
      run(kernel, arrays, made);
      for (array& a : made) {
        a.set_status(array::Status::available);
      }
    } else {
      auto primitive = std::make_shared<RustPrimitive>(mlx_stream_get_(stream), std::move(owned));
      made = array::make_arrays(std::move(result_shapes), std::vector<Dtype>(result_count, float32), primitive, arrays);
    }
    for (size_t i = 0; i < result_count; ++i) {
      mlx_array_set_(results[i], std::move(made[i]));
    }
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
  return 0;
}

// Computes what is only another view of a computed array, which takes no work, so that kernels need not wait
// for the graph.
extern "C" __attribute__((visibility("hidden"))) int mlxrt_settle(mlx_array handle) {
  try {
    array& a = mlx_array_get_(handle);
    if (a.status() == array::Status::unscheduled && a.has_primitive() && a.primitive().device() == Device::cpu &&
        ready(a.inputs())) {
      std::vector<array> outputs{a};
      a.primitive().eval_cpu(a.inputs(), outputs);
      a.detach();
      a.set_status(array::Status::available);
    }
  } catch (std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
  return 0;
}

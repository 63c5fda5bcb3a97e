// Linear layers of many tokens by the cuBLASLt library. Included by .cu files only.
//
// The library is asked once for each shape which of its kernels to use; the answer is kept. Its
// workspace is taken at the start and belongs to the stream in use. Engine thread. What the library
// refuses at work ends the process, as a CUDA error does.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <map>
#include <memory>
#include <type_traits>

#include "engine/ops/cuda/linear.cuh"
#include "memory/device/device.h"

namespace engram::engine::cuda {

class Gemm {
 public:
  // RESOURCE_EXHAUSTED when the scratch memory cannot be had, FAILED_PRECONDITION without the
  // library.
  static memory::Result<std::unique_ptr<Gemm>> make(
      memory::Device& device, const OpsLimits& limits);

  // Enqueues the product; f32 operands are not rounded, sums are in f32, a bias is rounded to the
  // dtype of y before it is added. False, with nothing enqueued, where the library has no kernel:
  // it does not multiply different dtypes, and may not take every address.
  bool multiply(Stream& stream, const Linear& l);

 private:
  // Destroys what the library made.
  template <auto Destroy>
  struct Destroyer {
    template <typename T>
    void operator()(T* made) const {
      ENGRAM_CHECK(Destroy(made) == CUBLAS_STATUS_SUCCESS);
    }
  };
  template <typename Pointer, auto Destroy>
  using Made = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroyer<Destroy>>;
  using Handle = Made<cublasLtHandle_t, cublasLtDestroy>;
  using Operation = Made<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
  using Layout = Made<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
  using Preference = Made<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

  // All that a choice of the library depends on. The number of tokens as it is: a kernel chosen for
  // one number need not take another.
  struct Shape {
    int64_t tokens = 0;
    int64_t rows = 0;
    int64_t cols = 0;
    int64_t x_stride = 0;
    int64_t y_stride = 0;
    DType operands = DType::kBf16;
    DType result = DType::kBf16;
    bool bias = false;
    uint32_t w_alignment = 0;  // bytes
    uint32_t x_alignment = 0;
    uint32_t y_alignment = 0;

    auto operator<=>(const Shape&) const = default;
  };
  struct Plan {
    Operation operation;
    Layout w;
    Layout x;
    Layout y;
    cublasLtMatmulAlgo_t algorithm{};
    bool found = false;
  };

  Gemm(Handle handle, memory::Buffer workspace, memory::Buffer bias);
  static Shape shape_of(const Linear& l);
  // False: the device has failed. What is wrong with the call is a bug and ends the process.
  static bool check(cublasStatus_t status, const char* call, const Shape& shape);
  static Layout make_layout(
      const Shape& shape, DType dtype, int64_t rows, int64_t cols, int64_t ld);
  Operation make_operation(const Shape& shape) const;
  Preference make_preference(const Shape& shape) const;
  Plan make_plan(const Shape& shape) const;
  const Plan& plan_of(const Shape& shape);
  void round_bias(Stream& stream, const Linear& l);

  const Handle handle_;
  const memory::Buffer workspace_;
  const memory::Buffer bias_;  // [max_rows] in the dtype of y, of one call
  // Engine thread.
  std::map<Shape, Plan> plans_;
};

}  // namespace engram::engine::cuda

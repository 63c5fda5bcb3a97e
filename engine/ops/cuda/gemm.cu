#include <source_location>
#include <string>
#include <utility>

#include "engine/ops/cuda/gemm.h"
#include "engine/ops/cuda/launch.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

// What NVIDIA recommends for Hopper; earlier GPUs need less.
// Source: cuBLAS documentation, "cublasSetWorkspace".
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

cudaDataType_t library_type(DType dtype) {
  if (dtype == DType::kBf16) return CUDA_R_16BF;
  ENGRAM_CHECK(dtype == DType::kF32);
  return CUDA_R_32F;
}

// The largest power of two, up to what the library asks about, that divides the address.
uint32_t alignment_of(const void* data) {
  constexpr uintptr_t kLargest = 256;
  const uintptr_t bits = reinterpret_cast<uintptr_t>(data) | kLargest;
  return static_cast<uint32_t>(bits & (~bits + 1));
}

template <typename T>
__global__ void round_bias_kernel(const float* bias, int64_t count, T* rounded) {
  wait_for_turn();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) rounded[i] = narrow<T>(bias[i]);
}

}  // namespace

Gemm::Gemm(Handle handle, memory::Buffer workspace, memory::Buffer bias)
    : handle_(std::move(handle)), workspace_(std::move(workspace)), bias_(std::move(bias)) {}

memory::Result<std::unique_ptr<Gemm>> Gemm::make(memory::Device& device, const OpsLimits& limits) {
  memory::Result<memory::Buffer> workspace =
      device.allocate("workspace of matrix products", kWorkspaceBytes);
  ENGRAM_RETURN_IF_ERROR(workspace.status());
  memory::Result<memory::Buffer> bias = device.allocate(
      "bias of linear layers", limits.max_rows * static_cast<int64_t>(sizeof(float)));
  ENGRAM_RETURN_IF_ERROR(bias.status());
  cublasLtHandle_t handle = nullptr;
  const cublasStatus_t created = cublasLtCreate(&handle);
  if (created != CUBLAS_STATUS_SUCCESS) {
    return memory::failed_precondition(
        std::string("--device cuda needs cuBLASLt: ") + cublasLtGetStatusString(created));
  }
  return std::unique_ptr<Gemm>(
      new Gemm(Handle(handle), std::move(workspace).value(), std::move(bias).value()));
}

bool Gemm::check(cublasStatus_t status, const char* call, const Shape& shape) {
  if (status == CUBLAS_STATUS_SUCCESS) return true;
  const std::string message =
      std::string(call) + " for x [" + std::to_string(shape.tokens) + ", " +
      std::to_string(shape.cols) + "] and w [" + std::to_string(shape.rows) + ", " +
      std::to_string(shape.cols) + "] in " + memory::dtype_name(shape.operands) + ", y in " +
      memory::dtype_name(shape.result) + ", strides " + std::to_string(shape.x_stride) + " and " +
      std::to_string(shape.y_stride) + ": " + cublasLtGetStatusString(status);
  const bool failed =
      status == CUBLAS_STATUS_NOT_INITIALIZED || status == CUBLAS_STATUS_ALLOC_FAILED ||
      status == CUBLAS_STATUS_EXECUTION_FAILED || status == CUBLAS_STATUS_INTERNAL_ERROR;
  if (!failed) memory::die(message.c_str(), std::source_location::current());
  memory::fail_cuda(message, std::source_location::current());
  return false;
}

Gemm::Shape Gemm::shape_of(const Linear& l) {
  return {
      .tokens = l.x.rows,
      .rows = l.w.rows,
      .cols = l.x.cols,
      .x_stride = l.x.stride,
      .y_stride = l.y.stride,
      .operands = l.x.dtype,
      .result = l.y.dtype,
      .bias = l.bias != nullptr,
      .w_alignment = alignment_of(l.w.data),
      .x_alignment = alignment_of(l.x.data),
      .y_alignment = alignment_of(l.y.data)};
}

// The library counts columns first: our rows are its columns. So y [T, N] is its [N, T] matrix
// W x^T, with W [K, N] transposed.
Gemm::Layout Gemm::make_layout(
    const Shape& shape, DType dtype, int64_t rows, int64_t cols, int64_t ld) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(
      cublasLtMatrixLayoutCreate(
          &layout, library_type(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(cols),
          ld),
      "cublasLtMatrixLayoutCreate", shape);
  return Layout(layout);
}

// f32 is computed in f32: CUBLAS_COMPUTE_32F does not round operands to tf32.
Gemm::Operation Gemm::make_operation(const Shape& shape) const {
  cublasLtMatmulDesc_t made = nullptr;
  check(
      cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate",
      shape);
  Operation operation(made);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    check(
        cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulDescSetAttribute", shape);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<int32_t>(CUBLAS_OP_T));
  if (shape.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(bias_.data()));
  }
  return operation;
}

Gemm::Preference Gemm::make_preference(const Shape& shape) const {
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate", shape);
  Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(
        cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute", shape);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_.bytes()));
  // Parts of K are added up in f32, not in the dtype of y.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, shape.w_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape.x_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape.y_alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape.y_alignment);
  return preference;
}

Gemm::Plan Gemm::make_plan(const Shape& shape) const {
  Plan plan;
  plan.operation = make_operation(shape);
  plan.w = make_layout(shape, shape.operands, shape.cols, shape.rows, shape.cols);
  plan.x = make_layout(shape, shape.operands, shape.cols, shape.tokens, shape.x_stride);
  plan.y = make_layout(shape, shape.result, shape.rows, shape.tokens, shape.y_stride);
  const Preference preference = make_preference(shape);
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), plan.operation.get(), plan.w.get(), plan.x.get(), plan.y.get(), plan.y.get(),
      preference.get(), 1, &best, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return plan;
  if (!check(status, "cublasLtMatmulAlgoGetHeuristic", shape)) return plan;
  plan.found = count == 1 && best.state == CUBLAS_STATUS_SUCCESS;
  plan.algorithm = best.algo;
  return plan;
}

const Gemm::Plan& Gemm::plan_of(const Shape& shape) {
  const auto known = plans_.find(shape);
  if (known != plans_.end()) return known->second;
  return plans_.emplace(shape, make_plan(shape)).first->second;
}

// The library takes a bias in the dtype of y only.
void Gemm::round_bias(Stream& stream, const Linear& l) {
  constexpr int kThreads = 256;
  ENGRAM_CHECK(l.w.rows * static_cast<int64_t>(sizeof(float)) <= bias_.bytes());
  memory::with_activation_type(l.y.dtype, [&]<typename T>(Type<T>) {
    launch(
        round_bias_kernel<T>,
        {.blocks = dim3(static_cast<unsigned>((l.w.rows + kThreads - 1) / kThreads)),
         .threads = kThreads,
         .stream = memory::native_stream(stream)},
        l.bias, l.w.rows, bias_.as<T>());
  });
}

bool Gemm::multiply(Stream& stream, const Linear& l) {
  if (l.w.dtype != l.x.dtype) return false;
  if (memory::cuda_failed()) return true;
  const Shape shape = shape_of(l);
  const Plan& plan = plan_of(shape);
  if (!plan.found) return false;
  if (shape.bias) round_bias(stream, l);
  const float one = 1.f;
  const float zero = 0.f;
  check(
      cublasLtMatmul(
          handle_.get(), plan.operation.get(), &one, l.w.data, plan.w.get(), l.x.data, plan.x.get(),
          &zero, l.y.data, plan.y.get(), l.y.data, plan.y.get(), &plan.algorithm, workspace_.data(),
          static_cast<size_t>(workspace_.bytes()), memory::native_stream(stream)),
      "cublasLtMatmul", shape);
  return true;
}

}  // namespace engram::engine::cuda

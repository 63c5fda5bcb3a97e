#include <utility>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/gemm.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/sample_staging.h"

namespace engram::engine {
namespace {

__global__ void no_work_kernel() {}

// Code compiled from PTX of an earlier version, on any GPU, does not wait for its turn.
bool code_waits_for_its_turn() {
  constexpr int kHopper = 90;
  cudaFuncAttributes attributes{};
  memory::cuda_ok(cudaFuncGetAttributes(&attributes, no_work_kernel));
  return attributes.ptxVersion >= kHopper;
}

}  // namespace

cuda::CudaOps::CudaOps(memory::Device& device, const OpsLimits& limits)
    : device_(device), limits_(limits), load_stream_(device.make_stream("load")) {
  started_early() = limits.early_starts && code_waits_for_its_turn();
}

cuda::CudaOps::~CudaOps() = default;

memory::Status cuda::CudaOps::allocate_scratch() {
  ENGRAM_RETURN_IF_ERROR(allocate_linear_scratch());
  ENGRAM_RETURN_IF_ERROR(allocate_sampling_scratch());
  return allocate_attention_scratch();
}

memory::Result<std::unique_ptr<Ops>> make_cuda_ops(
    memory::Device& device, const OpsLimits& limits) {
  std::unique_ptr<cuda::CudaOps> ops = std::make_unique<cuda::CudaOps>(device, limits);
  ENGRAM_RETURN_IF_ERROR(ops->allocate_scratch());
  return std::unique_ptr<Ops>(std::move(ops));
}

}  // namespace engram::engine

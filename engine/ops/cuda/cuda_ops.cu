#include <utility>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/gemm.h"
#include "engine/ops/cuda/sample_staging.h"

namespace engram::engine {

cuda::CudaOps::CudaOps(memory::Device& device, const OpsLimits& limits)
    : device_(device), limits_(limits), load_stream_(device.make_stream("load")) {}

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

// On the way only: the ops without a kernel yet.
#include <source_location>

#include "engine/ops/cuda/cuda_ops.h"

namespace engram::engine::cuda {

void CudaOps::do_sample(Stream&, View, std::span<const SampleRow>, std::span<SampleResult>) {
  memory::die("sample has no kernel yet", std::source_location::current());
}

}  // namespace engram::engine::cuda

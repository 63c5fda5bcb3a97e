#include "engine/ops/cpu/cpu_ops.h"

#include <algorithm>
#include <utility>

#include "engine/ops/cpu/linear_kernels.h"

namespace engram::engine {

memory::Status cpu::CpuOps::allocate_scratch() {
  const LinearScratch bytes =
      linear_scratch(limits_.max_tokens, limits_.max_cols, device_.workers().threads());
  memory::Result<memory::Buffer> packed = device_.allocate("linear inputs", bytes.packed_x);
  if (!packed.ok()) return packed.status();
  memory::Result<memory::Buffer> tiles = device_.allocate("linear scratch", bytes.workers);
  if (!tiles.ok()) return tiles.status();
  packed_x_ = std::move(packed).value();
  linear_scratch_ = std::move(tiles).value();
  // Some megabytes each for a large vocabulary; more threads than these would gain nothing.
  constexpr int kMaxSamplers = 16;
  for (int i = 0; i < std::min(kMaxSamplers, device_.workers().threads()); ++i) {
    samplers_.push_back(std::make_unique<Sampler>(limits_.max_rows));
  }
  return {};
}

memory::Result<std::unique_ptr<Ops>> make_cpu_ops(memory::Device& device, const OpsLimits& limits) {
  std::unique_ptr<cpu::CpuOps> ops = std::make_unique<cpu::CpuOps>(memory::as_cpu(device), limits);
  ENGRAM_RETURN_IF_ERROR(ops->allocate_scratch());
  return std::unique_ptr<Ops>(std::move(ops));
}

}  // namespace engram::engine

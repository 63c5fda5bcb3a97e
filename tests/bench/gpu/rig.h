// A GPU with its ops for benchmarks: memory filled there, so that no weight crosses the link. The
// emulated one in programs that run anywhere. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/ops.h"
#include "memory/device/device.h"
#include "tests/bench/gpu/kernels.h"

namespace engram::bench::gpu {

using memory::Buffer;
using memory::DType;
using memory::View;

// Buffers of one group of cases; they go when it goes.
class Rig {
 public:
  // Ends the process with "SKIPPED: no CUDA device" where there is none. Without limits: no ops. A
  // GPU that fails ends it too, at the latest with the rig.
  explicit Rig(const engine::OpsLimits& limits);
  ~Rig();

  memory::Device& device() { return *device_; }
  memory::Stream& stream() { return *stream_; }
  memory::Stream& side() { return *side_; }
  engine::Ops& ops() { return *ops_; }
  const GpuFacts& facts() const { return facts_; }

  void* allocate(int64_t bytes);
  void* pinned(int64_t bytes);
  // Filled with other values each.
  View random(DType dtype, int64_t rows, int64_t cols, float scale);
  engine::Matrix weight(int64_t rows, int64_t cols);  // bf16, unit variance in, unit variance out
  const int32_t* upload(const std::vector<int32_t>& values);
  // Tokens at positions [first, first + count) of each of so many sequences, in pages of 16 that
  // lie in any order. No ids: for attention.
  engine::Batch batch(int64_t sequences, int64_t first, int64_t count);

 private:
  const std::unique_ptr<memory::Device> device_;
  const GpuFacts facts_;
  std::unique_ptr<memory::Stream> stream_;
  std::unique_ptr<memory::Stream> side_;
  std::vector<Buffer> buffers_;
  std::unique_ptr<engine::Ops> ops_;
  uint32_t seed_ = 1;
};

constexpr int kPageTokens = 16;

}  // namespace engram::bench::gpu

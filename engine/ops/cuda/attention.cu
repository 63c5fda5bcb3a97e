// Attention: which kernel, in how many blocks.
#include <algorithm>

#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"

namespace engram::engine::cuda {
namespace {

// Room for the parts of rows whose keys are split. Enough for 64 splits of a token's 32 heads of
// 128 elements 30 times over; with more tokens there are fewer splits.
constexpr int64_t kPartialBytes = int64_t{32} << 20;
constexpr int64_t kCounters = 4096;  // of blocks, one per token and group of heads
// Some for each of a large GPU's multiprocessors. More would only cost the putting together.
constexpr int64_t kBlocks = 2048;

// As many as give the GPU enough blocks. The host knows no context, only the longest there may be.
int64_t splits_for(const Attention& a, int64_t max_context, int64_t groups) {
  const int64_t heads = a.q.cols / a.kv.head_dim;
  const int64_t row_bytes = (a.kv.head_dim + 2) * static_cast<int64_t>(sizeof(float));
  if (a.q.rows * groups > kCounters) return 1;
  const int64_t most = std::min(
      {int64_t{kMaxSplits}, (max_context + kKeyTile - 1) / kKeyTile, kBlocks / (a.q.rows * groups),
       kPartialBytes / (a.q.rows * heads * row_bytes)});
  return std::max<int64_t>(most, 1);
}

}  // namespace

memory::Status CudaOps::allocate_attention_scratch() {
  memory::Result<memory::Buffer> partials = device_.allocate("attention parts", kPartialBytes);
  if (!partials.ok()) return partials.status();
  memory::Result<memory::Buffer> arrived =
      device_.allocate("attention counters", kCounters * static_cast<int64_t>(sizeof(unsigned)));
  if (!arrived.ok()) return arrived.status();
  attention_partials_ = std::move(partials).value();
  attention_arrived_ = std::move(arrived).value();
  return {};
}

void CudaOps::do_attention(
    Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out) {
  Attention a;
  a.batch = batch;
  a.q = q;
  a.kv = kv;
  a.scale = scale;
  a.out = out;
  a.partials = attention_partials_.as<float>();
  a.arrived = attention_arrived_.as<unsigned>();
  const int64_t ratio = q.cols / kv.head_dim / kv.kv_heads;
  const int64_t heads = general_attention_heads(ratio);
  const int64_t groups = kv.kv_heads * ((ratio + heads - 1) / heads);
  a.splits = static_cast<int>(splits_for(a, limits_.max_context, groups));
  launch_attention_general(a, memory::native_stream(stream));
}

}  // namespace engram::engine::cuda

// Attention: which kernel for which tokens, in how many blocks.
#include <algorithm>

#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"

namespace engram::engine::cuda {
namespace {

// Room for the parts of rows whose keys are split: 64 splits of some 1000 rows of 128 elements.
// With more rows there are fewer splits.
constexpr int64_t kPartialBytes = int64_t{32} << 20;
constexpr int64_t kCounters = 4096;  // of blocks that share rows
// Some for each of a large GPU's multiprocessors. More would only cost the putting together.
constexpr int64_t kBlocks = 2048;

// As many as give the GPU enough blocks. The host knows no context, only the longest there may be.
int splits_for(const AttentionGrid& grid, int64_t head_dim, int64_t max_context) {
  const int64_t blocks = grid.tiles * grid.heads;
  if (blocks > kCounters) return 1;
  const int64_t row_bytes = (head_dim + 2) * static_cast<int64_t>(sizeof(float));
  const int64_t most = std::min(
      {int64_t{kMaxSplits}, (max_context + kKeyTile - 1) / kKeyTile, kBlocks / blocks,
       kPartialBytes / (blocks * grid.rows * row_bytes)});
  return static_cast<int>(std::max<int64_t>(most, 1));
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

// One token per sequence: decode, short tiles of rows and split keys. One sequence with several:
// tall tiles. Of a mixed step each kernel takes the sequences that it is good at and leaves the
// others at once.
void CudaOps::do_attention(
    Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out) {
  const cudaStream_t native = memory::native_stream(stream);
  Attention a;
  a.batch = batch;
  a.q = q;
  a.kv = kv;
  a.scale = scale;
  a.out = out;
  a.partials = attention_partials_.as<float>();
  a.arrived = attention_arrived_.as<unsigned>();
  if (!has_tensor_attention(a)) {
    a.splits = splits_for(general_attention_grid(a), kv.head_dim, limits_.max_context);
    return launch_general_attention(a, native);
  }
  const bool some_longer = batch.tokens > batch.sequences;
  const bool mixed = some_longer && batch.sequences > 1;
  if (some_longer) {
    a.tokens = mixed ? Tokens::kSeveral : Tokens::kAny;
    a.splits = splits_for(tensor_attention_grid<64>(a), kv.head_dim, limits_.max_context);
    launch_tensor_attention<64>(a, native);
  }
  if (mixed || !some_longer) {
    a.tokens = mixed ? Tokens::kOne : Tokens::kAny;
    a.splits = splits_for(tensor_attention_grid<16>(a), kv.head_dim, limits_.max_context);
    launch_tensor_attention<16>(a, native);
  }
}

}  // namespace engram::engine::cuda

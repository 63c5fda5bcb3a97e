// From logits to ids. A row is read once, by groups (sample_groups.cuh), and once more if its
// logits are changed by a list; everything after reads groups only.
#include <algorithm>
#include <utility>

#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/sample_changes.cuh"
#include "engine/ops/cuda/sample_draw.cuh"
#include "engine/ops/cuda/sample_logprobs.cuh"
#include "engine/ops/cuda/sample_staging.h"

namespace engram::engine::cuda {
namespace {

constexpr int kScanWarps = 8;  // of a block, a group each
constexpr int kMaxThreads = 512;

// Blocks (groups / kScanWarps, row). First all rows, raw; then those with changes, after them.
template <bool kChanged>
__global__ void scan_kernel(const SampleArgs a) {
  wait_for_turn();
  const RowParams& p = a.params[blockIdx.y];
  if (kChanged && !has_changes(p)) return;
  const int32_t group = static_cast<int32_t>(blockIdx.x * kScanWarps + threadIdx.x / 32);
  if (group >= a.groups) return;
  const bool draws = p.sample != 0 && (kChanged || !has_changes(p));
  const GroupSums sums = scan_group(
      a.logits + blockIdx.y * a.stride, a.vocab, group, draws ? p.sharpness : 0.f,
      !kChanged && p.logprobs >= 0 ? 1.f : 0.f);
  if (threadIdx.x % 32 != 0) return;
  const int64_t at = static_cast<int64_t>(blockIdx.y) * a.groups + group;
  if (draws) a.masses[at] = sums.mass;
  if (kChanged) {
    a.tops[at] = sums.top;
  } else {
    a.raw_tops[at] = sums.top;
    a.raw_masses[at] = sums.second;
  }
}

// A block per row.
__global__ void change_kernel(const SampleArgs a) {
  wait_for_turn();
  if (has_changes(a.params[blockIdx.x])) apply_changes(a, static_cast<int32_t>(blockIdx.x));
}

// A block per row.
__global__ void __launch_bounds__(kMaxThreads, 2) finish_kernel(const SampleArgs a) {
  wait_for_turn();
  const int32_t index = static_cast<int32_t>(blockIdx.x);
  const RowParams p = a.params[index];
  const int64_t first_group = static_cast<int64_t>(index) * a.groups;
  GroupedRow row{
      a.logits + index * a.stride, a.raw_tops + first_group, a.masses + first_group, a.vocab,
      a.groups};
  const float raw_top = top_of_groups(row.tops, row.groups);
  RowResult result;
  bool finite = is_finite(raw_top);
  if (finite && p.sample != 0) {
    float top = raw_top;
    if (has_changes(p)) {
      row.tops = a.tops + first_group;
      top = top_of_groups(row.tops, row.groups);
      finite = is_finite(top);
    }
    if (finite) result.id = draw(row, top, p);
  }
  if (has_changes(p)) {
    __syncthreads();
    undo_changes(a, index);
    __syncthreads();
  }
  result.finite = finite ? 1 : 0;
  if (finite && p.logprobs >= 0) {
    row.tops = a.raw_tops + first_group;
    row.masses = a.raw_masses + first_group;
    find_logprobs(row, raw_top, p, a.best, &result);
  }
  if (threadIdx.x != 0) return;
  a.results[index] = result;
  if (a.now != nullptr) a.now[index] = result.id;
}

// A thread per token.
__global__ void feed_kernel(const SampledFeed a) {
  wait_for_turn();
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t >= a.tokens || a.from[t] < 0) return;
  const int32_t id = max(a.sampled[a.from[t]], 0);
  a.ids[t] = id;
  if (a.windows != nullptr) a.windows[(t + 1) * a.window - 1] = a.canonical[id];
}

int threads_for(int64_t warps) {
  return static_cast<int>(std::min<int64_t>(32 * std::max<int64_t>(warps, 1), kMaxThreads));
}

void launch_batch(cudaStream_t stream, const SampleBatch& batch) {
  const SampleArgs& a = batch.args;
  const unsigned rows = static_cast<unsigned>(a.rows);
  const int scan_warps = std::min(kScanWarps, a.groups);
  const LaunchConfig scan{
      .blocks = dim3(static_cast<unsigned>((a.groups + kScanWarps - 1) / kScanWarps), rows),
      .threads = 32 * scan_warps,
      .stream = stream};
  launch(scan_kernel<false>, scan, a);
  if (batch.longest_list > 0) {
    const int threads = threads_for((batch.longest_list + 31) / 32);
    launch(change_kernel, {.blocks = dim3(rows), .threads = threads, .stream = stream}, a);
    launch(scan_kernel<true>, scan, a);
  }
  launch(
      finish_kernel, {.blocks = dim3(rows), .threads = threads_for(a.groups), .stream = stream}, a);
}

}  // namespace

memory::Status CudaOps::allocate_sampling_scratch() {
  memory::Result<std::unique_ptr<SampleStaging>> staging = SampleStaging::make(device_, limits_);
  if (!staging.ok()) return staging.status();
  sample_staging_ = std::move(staging).value();
  return {};
}

void CudaOps::do_feed_sampled(Stream& stream, const SampledFeed& feed) {
  constexpr int kThreads = 128;
  const unsigned blocks = static_cast<unsigned>((feed.tokens + kThreads - 1) / kThreads);
  launch(
      feed_kernel,
      {.blocks = dim3(blocks), .threads = kThreads, .stream = memory::native_stream(stream)}, feed);
}

void CudaOps::do_sample(
    Stream& stream,
    View logits,
    std::span<const SampleRow> rows,
    std::span<SampleResult> results,
    const SampledIds& ids) {
  for (int64_t first = 0; first < logits.rows;) {
    const size_t done = static_cast<size_t>(first);
    SampleBatch batch = sample_staging_->upload(
        stream, logits.row_range(first, logits.rows - first), rows.subspan(done));
    if (ids.before != nullptr) batch.args.before = ids.before + first;
    if (ids.now != nullptr) batch.args.now = ids.now + first;
    launch_batch(memory::native_stream(stream), batch);
    sample_staging_->expect(stream, results.subspan(done, static_cast<size_t>(batch.args.rows)));
    first += batch.args.rows;
  }
}

void CudaOps::deliver_samples() {
  sample_staging_->deliver_all();
}

}  // namespace engram::engine::cuda

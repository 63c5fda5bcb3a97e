#include <algorithm>
#include <array>
#include <atomic>

#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/linear_fp8.h"
#include "engine/ops/cpu/linear_kernels.h"

namespace engram::engine::cpu {
namespace {

using memory::CpuWorkers;

// From here on widening a panel once costs less than widening it for every block of rows.
constexpr int64_t kBlockedFromRows = 33;
static_assert(kBlockedFromRows <= kMaxStreamedRows + 1);

// Runs items [0, count) over the workers: item(worker, i), `worker` below threads().
template <typename F>
void for_each_item(CpuWorkers& workers, int64_t count, const F& item) {
  std::atomic<int64_t> next{0};
  workers.run(std::min<int64_t>(count, workers.threads()), [&](int64_t worker) {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) item(worker, i);
  });
}

// The same, but each worker goes forward through a range of its own, and helps the others when it
// is done: what it prefetches is what it reads next.
template <typename F>
void for_each_in_ranges(CpuWorkers& workers, int64_t count, const F& item) {
  struct alignas(64) Range {
    std::atomic<int64_t> next;
    int64_t end;
  };
  constexpr int64_t kMaxRanges = 64;
  const int64_t ranges = std::min<int64_t>({count, workers.threads(), kMaxRanges});
  std::array<Range, kMaxRanges> range;
  for (int64_t r = 0; r < ranges; ++r) {
    range[static_cast<size_t>(r)].next = r * count / ranges;
    range[static_cast<size_t>(r)].end = (r + 1) * count / ranges;
  }
  workers.run(std::min<int64_t>(count, workers.threads()), [&](int64_t worker) {
    for (int64_t turn = 0; turn < ranges; ++turn) {
      Range& r = range[static_cast<size_t>((worker + turn) % ranges)];
      for (int64_t i = r.next.fetch_add(1); i < r.end; i = r.next.fetch_add(1)) item(i);
    }
  });
}

void linear_streaming(
    CpuWorkers& workers, const Matrix& w, const float* packed, View x, View bias, View y) {
  const RowBlocks blocks(x.rows, x.cols);
  const bool fp8 = w.dtype == DType::kF8E4m3;
  for_each_in_ranges(workers, panel_count(w.rows), [&](int64_t panel) {
    const auto multiply = fp8 ? multiply_fp8_streaming : multiply_streaming;
    multiply({w, panel, panel + 1, packed, blocks, bias, y});
  });
}

void linear_blocked(
    CpuWorkers& workers,
    const Matrix& w,
    const float* packed,
    View x,
    View bias,
    View y,
    float* scratch) {
  const RowBlocks blocks(x.rows, x.cols);
  const int64_t panels = panel_count(w.rows);
  const int64_t threads = workers.threads();
  // As many groups as make an even split.
  const int64_t least = (panels + kGroupPanels - 1) / kGroupPanels;
  const int64_t groups = std::min(panels, (least + threads - 1) / threads * threads);
  const int64_t scratch_floats = LinearScratch::per_worker() / static_cast<int64_t>(sizeof(float));
  for_each_item(workers, groups, [&](int64_t worker, int64_t group) {
    const auto multiply = w.dtype == DType::kF8E4m3 ? multiply_fp8_blocked : multiply_blocked;
    multiply(
        {w, group * panels / groups, (group + 1) * panels / groups, packed, blocks, bias, y},
        scratch + worker * scratch_floats);
  });
}

}  // namespace

void CpuOps::do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) {
  ENGRAM_CHECK(x.rows <= limits_.max_tokens);
  ENGRAM_CHECK(x.cols <= limits_.max_cols);
  ENGRAM_CHECK(w.rows <= limits_.max_rows);
  memory::as_cpu(stream).enqueue([this, x, w, bias, y] {
    CpuWorkers& workers = device_.workers();
    float* packed = packed_x_.as<float>();
    const int64_t chunks = (x.rows + kChunkRows - 1) / kChunkRows;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = chunk * x.rows / chunks;
      const int64_t count = (chunk + 1) * x.rows / chunks - first;
      const View rows = x.row_range(first, count);
      const View out = y.row_range(first, count);
      const RowBlocks blocks(count, x.cols);
      workers.run(blocks.count(), [&](int64_t b) { pack_block(rows, blocks, b, packed); });
      if (count < kBlockedFromRows) {
        linear_streaming(workers, w, packed, rows, bias, out);
      } else {
        linear_blocked(workers, w, packed, rows, bias, out, linear_scratch_.as<float>());
      }
    }
  });
}

}  // namespace engram::engine::cpu

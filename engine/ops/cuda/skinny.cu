// Linear layers of a few tokens in bf16. The tensor cores do the arithmetic, so that one token and
// eight both cost the reading of W: on the CUDA cores eight would cost more.
//
// Sixteen rows of W are one block's; its warps share K. A lane brings 16 consecutive bytes of two
// rows of W and of one row of x: which k is which to the tensor cores does not matter as long as
// both operands agree. So nothing passes through shared memory but the warps' partial sums.
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/linear.cuh"
#include "engine/ops/cuda/load_once.cuh"
#include "engine/ops/cuda/mma.cuh"
#include "engine/ops/cuda/shared_memory.cuh"

namespace engram::engine::cuda {
namespace {

constexpr int kRows = 16;  // of W, a block's
constexpr int kWarps = 8;  // of a block; the order of the sums depends on it
constexpr int kLaneElements = 8;
constexpr int kStep = 4 * kLaneElements;  // of K: what the four lanes of a row load at once
constexpr int kBatch = 4;                 // steps whose loads are under way together

using Words = Pack<uint32_t, 4>;
using Sums = float[4];

// The products of the steps [first, last) of 16 rows of W.
__device__ inline void multiply_steps(
    const Linear& l, int64_t row, int64_t first, int64_t last, Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t token = lane / 4;
  const int64_t cols = l.x.cols;
  const Bf16* w = static_cast<const Bf16*>(l.w.data);
  // Rows past the last are the last once more; nobody stores their results.
  const Bf16* upper = w + at_most(row + lane / 4, l.w.rows - 1) * cols;
  const Bf16* lower = w + at_most(row + lane / 4 + 8, l.w.rows - 1) * cols;
  // The weights that are read first set off before the kernel's turn comes.
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const int64_t k = (first + i) * kStep + lane % 4 * kLaneElements;
    if (first + i >= last || k >= cols) continue;
    prefetch_weights(upper + k);
    prefetch_weights(lower + k);
  }
  wait_for_turn();
  const Bf16* x = token < l.x.rows ? l.x.row<Bf16>(token) : nullptr;
#pragma unroll 1
  for (int64_t step = first; step < last; step += kBatch) {
    Words a[kBatch] = {};
    Words b[kBatch] = {};
    Words t[kBatch] = {};
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t k = (step + i) * kStep + lane % 4 * kLaneElements;
      if (step + i >= last || k >= cols) continue;
      a[i] = load_once(upper + k);
      b[i] = load_once(lower + k);
      if (x != nullptr) t[i] = load_pack<uint32_t, 4>(reinterpret_cast<const uint32_t*>(x + k));
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
#pragma unroll
      for (int half = 0; half < 4; half += 2) {
        const uint32_t rows[4] = {a[i].v[half], b[i].v[half], a[i].v[half + 1], b[i].v[half + 1]};
        const uint32_t tokens[2] = {t[i].v[half], t[i].v[half + 1]};
        mma_bf16(rows, tokens, sums);
      }
    }
  }
}

__global__ void __launch_bounds__(32 * kWarps) skinny_kernel(const Linear l) {
  using Partial = float[kWarps][32][4];
  Partial& partial = shared<Partial, struct SkinnyPartial>();
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t steps = (l.x.cols + kStep - 1) / kStep;
  Sums sums = {};
  multiply_steps(l, row, steps * warp / kWarps, steps * (warp + 1) / kWarps, sums);
#pragma unroll
  for (int i = 0; i < 4; ++i) partial[warp][threadIdx.x % 32][i] = sums[i];
  __syncthreads();
  if (threadIdx.x >= kRows * kFewTokens) return;
  const int r = static_cast<int>(threadIdx.x) % kRows;
  const int token = static_cast<int>(threadIdx.x) / kRows;
  if (row + r >= l.w.rows || token >= l.x.rows) return;
  float total = 0.f;
  for (int i = 0; i < kWarps; ++i) {
    total += partial[i][r % 8 * 4 + token / 2][r / 8 * 2 + token % 2];
  }
  store_result(l, token, row + r, total);
}

}  // namespace

bool skinny_fits(const Linear& l) {
  return l.x.dtype == memory::DType::kBf16 && l.w.dtype == memory::DType::kBf16 &&
         rows_aligned(l.x) && reinterpret_cast<uintptr_t>(l.w.data) % 16 == 0;
}

void multiply_skinny(Stream& stream, const Linear& l) {
  launch(
      skinny_kernel,
      {.blocks = dim3(static_cast<unsigned>((l.w.rows + kRows - 1) / kRows)),
       .threads = 32 * kWarps,
       .stream = memory::native_stream(stream)},
      l);
}

}  // namespace engram::engine::cuda

// Linear layers of up to 32 tokens in bf16 with weights in f8_e4m3: half the bytes of skinny.cu, by
// the same plan. Sixteen rows of W are one block's; its warps share K. A lane brings 16 consecutive
// codes of two rows of W and 32 bytes of one row of x for every eight tokens.
//
// Tensor cores get the codes as bf16, which is exact. The sums over the inputs that four lanes
// bring at once, half a block of scales, are scaled and added up in f32.
#include "engine/ops/cuda/e4m3_pairs.cuh"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/linear.cuh"
#include "engine/ops/cuda/load_once.cuh"
#include "engine/ops/cuda/mma.cuh"
#include "engine/ops/cuda/shared_memory.cuh"

namespace engram::engine::cuda {
namespace {

constexpr int kRows = 16;  // of W, a block's
constexpr int kWarps = 8;  // of a block; the order of the sums depends on it
constexpr int kLaneCodes = 16;
constexpr int kStep = 4 * kLaneCodes;  // of K: what the four lanes of a row load at once
static_assert(kScaleCols % kStep == 0);

using Words = Pack<uint32_t, 4>;

// Of x for one step: 16 inputs of one token in every tile of eight.
template <int kTiles>
struct Inputs {
  Words first[kTiles];
  Words second[kTiles];
};

// One warp's part: 16 rows of W, 8 * kTiles tokens.
template <int kTiles>
struct WarpTile {
  static constexpr int kBatch = kTiles == 1 ? 4 : 2;  // steps whose loads are under way together

  const uint8_t* upper;
  const uint8_t* lower;
  const float* upper_scales;
  const float* lower_scales;
  const Bf16* x[kTiles];  // null: no such token
  int64_t cols;
  float sums[kTiles][4];

  __device__ Inputs<kTiles> load_inputs(int64_t k) const {
    Inputs<kTiles> t{};
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (x[i] == nullptr || k >= cols) continue;
      const uint32_t* from = reinterpret_cast<const uint32_t*>(x[i] + k);
      t.first[i] = load_pack<uint32_t, 4>(from);
      t.second[i] = load_pack<uint32_t, 4>(from + 4);
    }
    return t;
  }

  // The products of one step.
  __device__ void multiply(int64_t step, const Words& a, const Words& b, const Inputs<kTiles>& t) {
    float products[kTiles][4] = {};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      uint32_t upper_pairs[2];
      uint32_t lower_pairs[2];
      e4m3_to_bf16(a.v[word], upper_pairs);
      e4m3_to_bf16(b.v[word], lower_pairs);
      const uint32_t rows[4] = {upper_pairs[0], lower_pairs[0], upper_pairs[1], lower_pairs[1]};
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const Words& from = word < 2 ? t.first[i] : t.second[i];
        const uint32_t tokens[2] = {from.v[word % 2 * 2], from.v[word % 2 * 2 + 1]};
        mma_bf16(rows, tokens, products[i]);
      }
    }
    const int64_t block = step * kStep / kScaleCols;
    const float upper_scale = upper_scales[block];
    const float lower_scale = lower_scales[block];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        sums[i][j] = fmaf(products[i][j], j < 2 ? upper_scale : lower_scale, sums[i][j]);
      }
    }
  }

  __device__ void multiply_steps(int64_t first, int64_t last) {
    const int64_t lane_codes = static_cast<int64_t>(threadIdx.x % 4) * kLaneCodes;
    // The weights that are read first set off before the kernel's turn comes.
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t k = (first + i) * kStep + lane_codes;
      if (first + i >= last || k >= cols) continue;
      prefetch_weights(upper + k);
      prefetch_weights(lower + k);
    }
    wait_for_turn();
#pragma unroll 1
    for (int64_t step = first; step < last; step += kBatch) {
      Words a[kBatch] = {};
      Words b[kBatch] = {};
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int64_t k = (step + i) * kStep + lane_codes;
        if (step + i >= last || k >= cols) continue;
        a[i] = load_once(upper + k);
        b[i] = load_once(lower + k);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (step + i >= last) continue;
        const Inputs<kTiles> t = load_inputs((step + i) * kStep + lane_codes);
        multiply(step + i, a[i], b[i], t);
      }
    }
  }
};

template <int kTiles>
__global__ void __launch_bounds__(32 * kWarps, 2) skinny_fp8_kernel(const Linear l) {
  using Partial = float[kTiles][kWarps][32][4];
  Partial& partial = shared<Partial, struct SkinnyFp8Partial>();
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows;
  const uint8_t* codes = static_cast<const uint8_t*>(l.w.data);
  // Rows past the last are the last once more; nobody stores their results.
  const int64_t upper = at_most(row + lane / 4, l.w.rows - 1);
  const int64_t lower = at_most(row + lane / 4 + 8, l.w.rows - 1);
  WarpTile<kTiles> tile{};
  tile.cols = l.w.cols;
  tile.upper = codes + upper * tile.cols;
  tile.lower = codes + lower * tile.cols;
  tile.upper_scales = scales_of(l.w, upper);
  tile.lower_scales = scales_of(l.w, lower);
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    const int64_t token = 8 * i + lane / 4;
    tile.x[i] = token < l.x.rows ? l.x.row<Bf16>(token) : nullptr;
  }
  const int64_t steps = (tile.cols + kStep - 1) / kStep;
  tile.multiply_steps(steps * warp / kWarps, steps * (warp + 1) / kWarps);
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) partial[i][warp][lane][j] = tile.sums[i][j];
  }
  __syncthreads();
  for (int out = static_cast<int>(threadIdx.x); out < kRows * 8 * kTiles; out += 32 * kWarps) {
    const int r = out % kRows;
    const int token = out / kRows;
    if (row + r >= l.w.rows || token >= l.x.rows) continue;
    float total = 0.f;
    for (int i = 0; i < kWarps; ++i) {
      total += partial[token / 8][i][r % 8 * 4 + token % 8 / 2][r / 8 * 2 + token % 2];
    }
    store_result(l, token, row + r, total);
  }
}

template <int kTiles>
void launch_skinny_fp8(Stream& stream, const Linear& l) {
  launch(
      skinny_fp8_kernel<kTiles>,
      {.blocks = dim3(static_cast<unsigned>((l.w.rows + kRows - 1) / kRows)),
       .threads = 32 * kWarps,
       .stream = memory::native_stream(stream)},
      l);
}

}  // namespace

bool skinny_fp8_fits(const Linear& l) {
  return l.x.dtype == memory::DType::kBf16 && l.w.dtype == memory::DType::kF8E4m3 &&
         rows_aligned(l.x) && l.w.cols % kLaneCodes == 0 &&
         reinterpret_cast<uintptr_t>(l.w.data) % 16 == 0;
}

void multiply_skinny_fp8(Stream& stream, const Linear& l) {
  if (l.x.rows <= 8) return launch_skinny_fp8<1>(stream, l);
  if (l.x.rows <= 16) return launch_skinny_fp8<2>(stream, l);
  launch_skinny_fp8<4>(stream, l);
}

}  // namespace engram::engine::cuda

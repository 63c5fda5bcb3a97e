// Linear layers of a few tokens, of any dtypes: a warp multiplies one or two rows of W with all
// tokens.
//
// A lane takes every 32nd chunk of 16 bytes of a row of W, element after element, whatever the
// number of tokens and whether the addresses allow accesses of 16 bytes: the order of the sums is
// the same. x is read again by each warp; it is small and stays in L1, which W goes past.
#include <cstring>

#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/linear.cuh"
#include "engine/ops/cuda/load_once.cuh"
#include "engine/ops/cuda/reduce.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

constexpr int kWarps = 4;  // of a block

template <typename W>
constexpr int kChunk = static_cast<int>(16 / sizeof(W));  // elements

template <typename W>
using Chunk = Pack<W, kChunk<W>>;

// What is past `left` elements counts as zero.
template <typename W, bool kWide>
__device__ Chunk<W> load_weights(const W* from, int64_t left) {
  if constexpr (kWide) {
    const Pack<uint32_t, 4> words = load_once(from);
    Chunk<W> chunk;
    memcpy(static_cast<void*>(&chunk), &words, sizeof(chunk));
    return chunk;
  } else {
    Chunk<W> chunk{};
#pragma unroll
    for (int i = 0; i < kChunk<W>; ++i) {
      if (i < left) chunk.v[i] = from[i];
    }
    return chunk;
  }
}

template <int kCount, typename X, bool kWide>
__device__ Pack<float, kCount> load_inputs(const X* from, int64_t left) {
  Pack<float, kCount> values{};
  if constexpr (kWide) {
    constexpr int kWidest = static_cast<int>(16 / sizeof(X));
    constexpr int kAtOnce = kCount < kWidest ? kCount : kWidest;
#pragma unroll
    for (int first = 0; first < kCount; first += kAtOnce) {
      const Pack<X, kAtOnce> pack = load_pack<X, kAtOnce>(from + first);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) values.v[first + i] = widen(pack.v[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < left) values.v[i] = widen(from[i]);
    }
  }
  return values;
}

// One warp's part of the work: kRows rows of W, kTokens rows of x.
template <typename W, typename X, int kRows, int kTokens, bool kWide>
struct WarpRows {
  const W* w[kRows];
  const X* x[kTokens];
  int64_t cols;
  float sums[kRows][kTokens];

  // Adds the products of `kAtOnce` chunks from `chunk`, 32 chunks apart, all of which there are.
  template <int kAtOnce>
  __device__ void add(int64_t chunk) {
    constexpr int kCount = kChunk<W>;
    Chunk<W> weights[kAtOnce][kRows];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t k = (chunk + 32 * i) * kCount;
#pragma unroll
      for (int r = 0; r < kRows; ++r) weights[i][r] = load_weights<W, kWide>(w[r] + k, cols - k);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t k = (chunk + 32 * i) * kCount;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const Pack<float, kCount> inputs = load_inputs<kCount, X, kWide>(x[t] + k, cols - k);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int j = 0; j < kCount; ++j) {
            sums[r][t] = fmaf(widen(weights[i][r].v[j]), inputs.v[j], sums[r][t]);
          }
        }
      }
    }
  }
};

template <int kTokens>
struct Few {
  static constexpr int kRows = kTokens == 1 ? 1 : 2;
  static constexpr int kAtOnce = 4 / kRows;  // chunks of a row: 64 bytes of W are under way
  // Of a multiprocessor, at least; 0: the compiler's choice. What it needs to spill no registers.
  static constexpr int kBlocks = kTokens <= 2 ? 4 : kTokens == 4 ? 3 : 0;
};

template <typename W, typename X, int kTokens, bool kWide>
__global__ void __launch_bounds__(32 * kWarps, Few<kTokens>::kBlocks) few_kernel(const Linear l) {
  using Shape = Few<kTokens>;
  constexpr int kRows = Shape::kRows;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kRows;
  if (row >= l.w.rows) return;
  WarpRows<W, X, kRows, kTokens, kWide> part{};
  part.cols = l.x.cols;
  // Rows and tokens past the last are the last once more; nobody stores their results.
  const W* w = static_cast<const W*>(l.w.data);
#pragma unroll
  for (int r = 0; r < kRows; ++r) part.w[r] = w + at_most(row + r, l.w.rows - 1) * part.cols;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) part.x[t] = l.x.row<X>(at_most(t, l.x.rows - 1));
  const int64_t chunks = (part.cols + kChunk<W> - 1) / kChunk<W>;
  int64_t chunk = lane;
#pragma unroll 1
  for (; chunk + 32 * (Shape::kAtOnce - 1) < chunks; chunk += 32 * Shape::kAtOnce) {
    part.template add<Shape::kAtOnce>(chunk);
  }
#pragma unroll 1
  for (; chunk < chunks; chunk += 32) part.template add<1>(chunk);
  float mine = 0.f;
#pragma unroll
  for (int i = 0; i < kRows * kTokens; ++i) {
    const float total = warp_sum(part.sums[i % kRows][i / kRows]);
    if (lane == i) mine = total;
  }
  const int64_t token = lane / kRows;
  const int64_t n = row + lane % kRows;
  if (token < l.x.rows && n < l.w.rows) store_result(l, token, n, mine);
}

template <typename W, typename X, int kTokens>
void launch_few(Stream& stream, const Linear& l) {
  constexpr int64_t kBlockRows = kWarps * Few<kTokens>::kRows;
  const bool wide = rows_aligned(l.x) && reinterpret_cast<uintptr_t>(l.w.data) % 16 == 0 &&
                    l.w.cols % kChunk<W> == 0;
  launch(
      wide ? few_kernel<W, X, kTokens, true> : few_kernel<W, X, kTokens, false>,
      {.blocks = dim3(static_cast<unsigned>((l.w.rows + kBlockRows - 1) / kBlockRows)),
       .threads = 32 * kWarps,
       .stream = memory::native_stream(stream)},
      l);
}

}  // namespace

void multiply_few(Stream& stream, const Linear& l) {
  with_weight_type(l.w.dtype, [&]<typename W>(Type<W>) {
    memory::with_activation_type(l.x.dtype, [&]<typename X>(Type<X>) {
      if (l.x.rows == 1) return launch_few<W, X, 1>(stream, l);
      if (l.x.rows == 2) return launch_few<W, X, 2>(stream, l);
      if (l.x.rows <= 4) return launch_few<W, X, 4>(stream, l);
      launch_few<W, X, 8>(stream, l);
    });
  });
}

}  // namespace engram::engine::cuda

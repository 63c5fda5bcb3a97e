// Linear layers of a few tokens, of any dtypes: a warp multiplies one or two rows of W with all
// tokens.
//
// A lane takes every 32nd chunk of 16 bytes of a row of W, element after element, whatever the
// number of tokens and whether the addresses allow accesses of 16 bytes: the order of the sums is
// the same. x is read again by each warp; it is small and stays in L1, which W goes past. A chunk
// of f8_e4m3 lies within one block of scales: its products are added up from zero, then scaled.
#include <cstring>
#include <type_traits>

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
static_assert(kScaleCols % kChunk<E4m3> == 0);

template <typename W>
__device__ Pack<float, kChunk<W>> widen_chunk(const Chunk<W>& chunk) {
  Pack<float, kChunk<W>> values;
  if constexpr (std::is_same_v<W, E4m3>) {
    Pack<uint32_t, 4> words;
    memcpy(static_cast<void*>(&words), &chunk, sizeof(words));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const Pack<float, 4> four = widen_codes(words.v[i]);
#pragma unroll
      for (int j = 0; j < 4; ++j) values.v[4 * i + j] = four.v[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kChunk<W>; ++i) values.v[i] = widen(chunk.v[i]);
  }
  return values;
}

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
  static constexpr bool kScaled = std::is_same_v<W, E4m3>;

  const W* w[kRows];
  const float* scales[kRows];  // of the rows of an f8_e4m3 W
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
      Pack<float, kCount> factors[kRows];
      float scale[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        factors[r] = widen_chunk<W>(weights[i][r]);
        if constexpr (kScaled) scale[r] = scales[r][k / kScaleCols];
      }
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const Pack<float, kCount> inputs = load_inputs<kCount, X, kWide>(x[t] + k, cols - k);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          float sum = kScaled ? 0.f : sums[r][t];
#pragma unroll
          for (int j = 0; j < kCount; ++j) sum = fmaf(factors[r].v[j], inputs.v[j], sum);
          if constexpr (kScaled) sum = fmaf(sum, scale[r], sums[r][t]);
          sums[r][t] = sum;
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

// The weights that the warp reads first set off before its turn comes.
template <typename W, typename Shape, typename Part>
__device__ void prefetch_first(const Part& part) {
#pragma unroll
  for (int i = 0; i < Shape::kAtOnce; ++i) {
    const int64_t k = (threadIdx.x % 32 + int64_t{32} * i) * kChunk<W>;
#pragma unroll
    for (int r = 0; r < Shape::kRows; ++r) {
      if (k < part.cols) prefetch_weights(part.w[r] + k);
    }
  }
}

template <typename W, typename X, int kTokens, bool kWide>
__global__ void __launch_bounds__(32 * kWarps, Few<kTokens>::kBlocks) few_kernel(const Linear l) {
  using Shape = Few<kTokens>;
  constexpr int kRows = Shape::kRows;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kRows;
  WarpRows<W, X, kRows, kTokens, kWide> part{};
  part.cols = l.x.cols;
  // Rows and tokens past the last are the last once more; nobody stores their results.
  const W* w = static_cast<const W*>(l.w.data);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int64_t n = at_most(row + r, l.w.rows - 1);
    part.w[r] = w + n * part.cols;
    if constexpr (std::is_same_v<W, E4m3>) part.scales[r] = scales_of(l.w, n);
  }
  prefetch_first<W, Shape>(part);
  wait_for_turn();
  if (row >= l.w.rows) return;
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
  const auto multiply = [&]<typename W>(Type<W>) {
    memory::with_activation_type(l.x.dtype, [&]<typename X>(Type<X>) {
      if (l.x.rows == 1) return launch_few<W, X, 1>(stream, l);
      if (l.x.rows == 2) return launch_few<W, X, 2>(stream, l);
      if (l.x.rows <= 4) return launch_few<W, X, 4>(stream, l);
      launch_few<W, X, 8>(stream, l);
    });
  };
  if (l.w.dtype == DType::kF8E4m3) return multiply(Type<E4m3>{});
  with_weight_type(l.w.dtype, multiply);
}

}  // namespace engram::engine::cuda

// Linear layers of many tokens, of any dtypes and at any addresses: a block computes a square of y
// on the CUDA cores.
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/linear.cuh"
#include "engine/ops/cuda/shared_memory.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

constexpr int kSide = 64;   // of a block's square
constexpr int kDepth = 16;  // of K, in shared memory at a time
constexpr int kEdge = 4;    // of a thread's square
constexpr int kThreads = kSide * kSide / (kEdge * kEdge);

// Transposed, so that neighbours along a side are read by one access; the rows are apart so far
// that the threads of a warp write to different banks.
using Slab = float[kDepth][kSide + 4];

// Rows from `first`, columns from `k`; zeros where there are none.
template <typename T>
__device__ void load_slab(View from, int64_t first, int64_t k, Slab& slab) {
  for (int i = static_cast<int>(threadIdx.x); i < kSide * kDepth; i += kThreads) {
    const int64_t row = first + i / kDepth;
    const int64_t col = k + i % kDepth;
    const bool inside = row < from.rows && col < from.cols;
    slab[i % kDepth][i / kDepth] = inside ? widen(from.row<T>(row)[col]) : 0.f;
  }
}

// Blocks (part of N, part of T).
template <typename W, typename X>
__global__ void __launch_bounds__(kThreads, 2) tiles_kernel(const Linear l) {
  wait_for_turn();
  Slab& w = shared<Slab, struct WeightSlab>();
  Slab& x = shared<Slab, struct InputSlab>();
  const View weights{l.w.data, l.w.rows, l.w.cols, l.w.cols, l.w.dtype};
  const int64_t n = static_cast<int64_t>(blockIdx.x) * kSide;
  const int64_t token = static_cast<int64_t>(blockIdx.y) * kSide;
  const int across = static_cast<int>(threadIdx.x) % (kSide / kEdge) * kEdge;
  const int down = static_cast<int>(threadIdx.x) / (kSide / kEdge) * kEdge;
  float sums[kEdge][kEdge] = {};
#pragma unroll 1
  for (int64_t k = 0; k < l.x.cols; k += kDepth) {
    __syncthreads();  // the last slabs are read
    load_slab<W>(weights, n, k, w);
    load_slab<X>(l.x, token, k, x);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const Pack<float, kEdge> a = load_pack<float, kEdge>(&x[i][down]);
      const Pack<float, kEdge> b = load_pack<float, kEdge>(&w[i][across]);
#pragma unroll
      for (int r = 0; r < kEdge; ++r) {
#pragma unroll
        for (int c = 0; c < kEdge; ++c) sums[r][c] = fmaf(a.v[r], b.v[c], sums[r][c]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kEdge; ++r) {
#pragma unroll
    for (int c = 0; c < kEdge; ++c) {
      if (token + down + r >= l.x.rows || n + across + c >= l.w.rows) continue;
      store_result(l, token + down + r, n + across + c, sums[r][c]);
    }
  }
}

}  // namespace

void multiply_tiles(Stream& stream, const Linear& l) {
  with_weight_type(l.w.dtype, [&]<typename W>(Type<W>) {
    memory::with_activation_type(l.x.dtype, [&]<typename X>(Type<X>) {
      launch(
          tiles_kernel<W, X>,
          {.blocks = dim3(
               static_cast<unsigned>((l.w.rows + kSide - 1) / kSide),
               static_cast<unsigned>((l.x.rows + kSide - 1) / kSide)),
           .threads = kThreads,
           .stream = memory::native_stream(stream)},
          l);
    });
  });
}

}  // namespace engram::engine::cuda

// Paged attention on CUDA cores: a block per token, group of query heads of one kv head, and split.
//
// Tile by tile of kKeyTile keys: scores (some lanes per key, all heads of the group at once), then
// softmax (a warp per head), then values (a thread per piece of a row, for every n-th key). A key
// and a value are read once for the group, by accesses of 16 bytes where the head width allows.
// Softmax is online: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax".
#include <algorithm>

#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {
namespace {

using memory::Type;

constexpr int kMaxParts = 16;  // threads that share the keys of one piece of a row

// Threads of a block, for accesses of N elements: at least one per access of the widest head.
template <int N>
constexpr int kThreadsFor = N == 2 ? kMaxHeadDim / 2 : 128;

template <int H>
struct Tile {
  alignas(16) float weights[kKeyTile][H];  // scores, then exp2(score - top)
  int64_t offsets[2][kKeyTile];            // of keys in the cache; the next tile's while in use
  float key_scales[2][kKeyTile];           // of codes; else unused
  float value_scales[2][kKeyTile];
  float top[H];     // largest score so far
  float sum[H];     // of the weights
  float shrink[H];  // what earlier weights are multiplied by
};

// Where `count` positions from `first` on are in the cache, with their scales if it has codes.
template <typename C, int H>
__device__ void find_keys(
    const KvLayer& kv,
    const int32_t* pages,
    int kv_head,
    int first,
    int count,
    int turn,
    Tile<H>& tile) {
  const int key = static_cast<int>(threadIdx.x);
  if (key >= count) return;
  const int64_t row = cache_row(kv, pages, kv_head, first + key);
  tile.offsets[turn][key] = row * kv.head_dim;
  if constexpr (sizeof(C) == 1) {
    tile.key_scales[turn][key] = widen_e8m0(kv.key_scales[row]);
    tile.value_scales[turn][key] = widen_e8m0(kv.value_scales[row]);
  }
}

// Scores of `count` keys: q [H, Dh] is scaled. `lanes` lanes of a warp share a key.
template <typename C, int N, int H>
__device__ void score_keys(
    const C* keys, int turn, int count, int width, int lanes, const float* q, Tile<H>& tile) {
  constexpr int kWords = N < 4 ? N : 4;  // of one access of q
  const int64_t* const offsets = tile.offsets[turn];
  constexpr int kAhead = N * H > 32 ? 2 : 4;  // keys whose loads are in flight together
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int step = kThreadsFor<N> / lanes;
  for (int first = static_cast<int>(threadIdx.x) / lanes; first < kKeyTile;
       first += kAhead * step) {
    float dot[kAhead][H] = {};
    for (int c = lane * N; c < width; c += lanes * N) {
      Pack<C, N> key[kAhead] = {};
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int k = first + i * step;
        if (k < count) key[i] = load_pack<C, N>(keys + offsets[k] + c);
      }
#pragma unroll
      for (int h = 0; h < H; ++h) {
        alignas(16) float query[N];
#pragma unroll
        for (int n = 0; n < N; n += kWords) {
          store_pack<float, kWords>(load_pack<float, kWords>(q + h * width + c + n), query + n);
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
#pragma unroll
          for (int n = 0; n < N; ++n) dot[i][h] += query[n] * widen(key[i].v[n]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      float scale = 1.f;
      if constexpr (sizeof(C) == 1) {
        if (first + i * step < count) scale = tile.key_scales[turn][first + i * step];
      }
#pragma unroll
      for (int h = 0; h < H; ++h) {
        for (int other = lanes / 2; other > 0; other /= 2) {
          dot[i][h] += __shfl_xor_sync(kAllLanes, dot[i][h], other);
        }
        if (lane == 0 && first + i * step < kKeyTile) {
          tile.weights[first + i * step][h] = dot[i][h] * scale;
        }
      }
    }
  }
}

// Turns the scores of `count` keys into weights, of codes times the value's scale, which the sum of
// the weights is without. A warp per head.
template <typename C, int H>
__device__ void weigh_keys(int turn, int count, Tile<H>& tile) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int h = static_cast<int>(threadIdx.x) / 32; h < H; h += warps) {
    float top = tile.top[h];
    for (int key = lane; key < count; key += 32) top = fmaxf(top, tile.weights[key][h]);
    top = warp_max(top);
    float sum = 0.f;
    for (int key = lane; key < count; key += 32) {
      const float weight = exp2f(tile.weights[key][h] - top);
      tile.weights[key][h] = sizeof(C) == 1 ? weight * tile.value_scales[turn][key] : weight;
      sum += weight;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      tile.shrink[h] = exp2f(tile.top[h] - top);
      tile.sum[h] = tile.sum[h] * tile.shrink[h] + sum;
      tile.top[h] = top;
    }
    __syncwarp();
  }
}

// Adds the weighted values of the keys part, part + parts, ... to this thread's piece of each head.
template <typename C, int N, int H>
__device__ void add_values(
    const C* values,
    const int64_t* offsets,
    int count,
    int part,
    int parts,
    const Tile<H>& tile,
    float (&sums)[H][N]) {
#pragma unroll
  for (int h = 0; h < H; ++h) {
#pragma unroll
    for (int n = 0; n < N; ++n) sums[h][n] *= tile.shrink[h];
  }
#pragma unroll 4
  for (int key = part; key < count; key += parts) {
    const Pack<C, N> value = load_pack<C, N>(values + offsets[key]);
#pragma unroll
    for (int h = 0; h < H; ++h) {
      const float weight = tile.weights[key][h];
#pragma unroll
      for (int n = 0; n < N; ++n) sums[h][n] += weight * widen(value.v[n]);
    }
  }
}

// Blocks (token, kv head and group of its query heads, split). Dynamic shared memory: [H, Dh] f32,
// the queries, in the end the outputs.
template <typename T, typename C, int N, int H>
__global__ void __launch_bounds__(kThreadsFor<N>, 384 / kThreadsFor<N>)
    attention_general_kernel(const __grid_constant__ Attention a) {
  wait_for_turn();
  constexpr int kThreads = kThreadsFor<N>;
  Tile<H>& tile = shared<Tile<H>, struct GeneralTile>();
  float* const q = dynamic_shared<float>();
  const int64_t token = blockIdx.x;
  const int width = a.kv.head_dim;
  const int q_heads = static_cast<int>(a.q.cols) / width;
  const int ratio = q_heads / a.kv.kv_heads;
  const int groups = (ratio + H - 1) / H;
  const int kv_head = static_cast<int>(blockIdx.y) / groups;
  const int first_head = kv_head * ratio + static_cast<int>(blockIdx.y) % groups * H;
  const int heads = at_most(H, (kv_head + 1) * ratio - first_head);
  const int context = a.batch.positions[token] + 1;
  const int used = splits_in_use(context, a.splits);
  const int split = static_cast<int>(blockIdx.z);
  if (split >= used) return;
  const KeyRange range = keys_of_split(context, a.splits, split);
  const int32_t* pages = a.batch.page_table + a.batch.sequence_of[token] * a.batch.max_pages;
  const int thread = static_cast<int>(threadIdx.x);

  const T* const from = a.q.row<T>(token) + static_cast<int64_t>(first_head) * width;
  for (int c = thread; c < H * width; c += kThreads) {
    q[c] = c < heads * width ? widen(from[c]) * (a.scale * kLog2E) : 0.f;
  }
  if (thread < H) {
    tile.top[thread] = -INFINITY;
    tile.sum[thread] = 0.f;
  }
  const int packs = width / N;  // accesses of a row
  int lanes = 1;
  while (lanes < 32 && lanes < packs) lanes *= 2;
  const int parts = at_most(kMaxParts, kThreads / packs);
  const int part = thread / packs;
  const int column = thread % packs * N;
  float sums[H][N] = {};
  int turn = 0;
  for (int first = range.begin; first < range.end; first += kKeyTile, turn ^= 1) {
    const int count = at_most(kKeyTile, range.end - first);
    find_keys<C>(a.kv, pages, kv_head, first, count, turn, tile);
    __syncthreads();
    score_keys<C, N, H>(static_cast<const C*>(a.kv.keys), turn, count, width, lanes, q, tile);
    __syncthreads();
    weigh_keys<C>(turn, count, tile);
    __syncthreads();
    if (part >= parts) continue;
    add_values<C, N, H>(
        static_cast<const C*>(a.kv.values) + column, tile.offsets[turn], count, part, parts, tile,
        sums);
  }

  // The parts of a row meet in shared memory, in order.
  for (int turn_of = 0; turn_of < parts; ++turn_of) {
    __syncthreads();
    if (part != turn_of) continue;
#pragma unroll
    for (int h = 0; h < H; ++h) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        float& sum = q[h * width + column + n];
        sum = turn_of == 0 ? sums[h][n] : sum + sums[h][n];
      }
    }
  }
  __syncthreads();
  const int64_t block = token * gridDim.y + blockIdx.y;
  T* const out = a.out.row<T>(token) + static_cast<int64_t>(first_head) * width;
  if (used == 1) {
    for (int c = thread; c < heads * width; c += kThreads) {
      out[c] = narrow<T>(q[c] / tile.sum[c / width]);
    }
    return;
  }
  for (int h = 0; h < heads; ++h) {
    float* const to = partial_of(a, block * H + h, split);
    for (int c = thread; c < width; c += kThreads) to[c] = q[h * width + c];
    if (thread == 0) to[width] = tile.top[h];
    if (thread == 0) to[width + 1] = tile.sum[h];
  }
  if (!last_to_arrive(a.arrived + block, static_cast<unsigned>(used))) {
    return;
  }
  for (int h = thread / 32; h < heads; h += kThreads / 32) {
    combine_row<T>(a, block * H + h, used, out + h * width);
  }
}

// Query heads of one block; those of a kv head fill whole blocks.
int64_t heads_of_block(const Attention& a) {
  const int64_t ratio = a.q.cols / a.kv.head_dim / a.kv.kv_heads;
  if (ratio == 1) return 1;
  return ratio <= 4 ? 4 : 8;
}

template <typename T, typename C, int N, int H>
void launch_group(const Attention& a, cudaStream_t stream) {
  const AttentionGrid grid = general_attention_grid(a);
  launch(
      attention_general_kernel<T, C, N, H>,
      {.blocks = dim3(
           static_cast<unsigned>(grid.tiles), static_cast<unsigned>(grid.heads),
           static_cast<unsigned>(a.splits)),
       .threads = kThreadsFor<N>,
       .shared_bytes = static_cast<int64_t>(sizeof(float)) * H * a.kv.head_dim,
       .stream = stream},
      a);
}

template <typename T, typename C, int N>
void launch_width(const Attention& a, cudaStream_t stream) {
  switch (heads_of_block(a)) {
    case 1:
      return launch_group<T, C, N, 1>(a, stream);
    case 4:
      return launch_group<T, C, N, 4>(a, stream);
    default:
      return launch_group<T, C, N, 8>(a, stream);
  }
}

}  // namespace

AttentionGrid general_attention_grid(const Attention& a) {
  const int64_t ratio = a.q.cols / a.kv.head_dim / a.kv.kv_heads;
  const int64_t heads = heads_of_block(a);
  return {.tiles = a.q.rows, .heads = a.kv.kv_heads * ((ratio + heads - 1) / heads), .rows = heads};
}

void launch_general_attention(const Attention& a, cudaStream_t stream) {
  with_cache_types(a.q.dtype, a.kv.dtype, [&]<typename T, typename C>(Type<T>, Type<C>) {
    constexpr int kWide = sizeof(C) == 4 ? 4 : 8;
    const auto aligned = [](const void* data) {
      return reinterpret_cast<uintptr_t>(data) % 16 == 0;
    };
    if (a.kv.head_dim % kWide == 0 && aligned(a.kv.keys) && aligned(a.kv.values)) {
      return launch_width<T, C, kWide>(a, stream);
    }
    launch_width<T, C, 2>(a, stream);
  });
}

}  // namespace engram::engine::cuda

// Paged attention on tensor cores: a block per tile of query rows, kv head, and split of the keys.
//
// The rows of a sequence and a kv head are its tokens times the query heads of that kv head, so
// that a key is read once for all of them. A block of four warps has 64 rows, 16 per warp, which
// see all keys; or 16 rows, of which each warp sees a quarter of the keys, for decode. Keys and
// values come tile by tile to shared memory: the values of a tile while the scores are computed,
// the keys of the next one while the values are summed.
// Softmax weights are rounded to bf16 before they meet the values. Of the keys of a tile that a row
// does not see the weight is 0, so a value that is not a number spoils all rows of its tile.
// Source: Dao 2023, "FlashAttention-2".
#include "engine/ops/cuda/async_copy.cuh"
#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/mma.cuh"
#include "engine/ops/cuda/reduce.cuh"
#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowsOfWarp = 16;

// Where a tile of query rows is. Row r of a sequence is token r / heads, query head r % heads of
// the kv head.
struct RowTile {
  int sequence;
  int token;  // first of the sequence, in the step
  int rows;   // of the sequence; 0: no tile
  int first;  // row of the tile
};

// The tiles of sequence s are numbered from token_begin[s] * heads / kRows + s, which leaves room
// for all of them and needs no sum over the sequences before.
template <int kRows>
__device__ RowTile find_tile(const Attention& a, int heads, int index) {
  const int32_t* begin = a.batch.token_begin;
  int s = 0;
  if (a.tokens == Tokens::kOne) {
    const int tiles = (heads + kRows - 1) / kRows;
    s = index / tiles;
    index %= tiles;
  } else {
    int end = static_cast<int>(a.batch.sequences);
    while (end - s > 1) {
      const int middle = (s + end) / 2;
      if (begin[middle] * heads / kRows + middle <= index) {
        s = middle;
      } else {
        end = middle;
      }
    }
    index -= begin[s] * heads / kRows + s;
  }
  const int tokens = begin[s + 1] - begin[s];
  const bool wanted = a.tokens == Tokens::kAny || (a.tokens == Tokens::kOne) == (tokens == 1);
  return {s, begin[s], wanted ? tokens * heads : 0, index * kRows};
}

// Element of a tile [kKeyTile, D] whose chunks of 16 bytes lie so that eight rows of a matrix come
// from different banks.
template <int D>
__device__ int in_tile(int key, int chunk) {
  return key * D + (chunk ^ (key & 7)) * 8;
}

// Starts the copies of the rows of `count` keys or values; rows behind become zero.
template <int D>
__device__ void copy_tile(const Bf16* from, const int64_t* offsets, int count, Bf16* to) {
  constexpr int kChunks = D / 8;
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk = thread % kChunks;
#pragma unroll
  for (int i = 0; i < kKeyTile * kChunks / kThreads; ++i) {
    const int key = thread / kChunks + i * (kThreads / kChunks);
    const bool there = key < count;
    copy_16_async(
        to + in_tile<D>(key, chunk), from + (there ? offsets[key] + chunk * 8 : 0), there);
  }
  commit_copies();
}

// scores = q k^T for keys [first, first + 8 * kTiles) of the tile.
template <int D, int kTiles>
__device__ void score_keys(
    const uint32_t (&q)[D / 16][4], const Bf16* keys, int first, float (&scores)[kTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int key = first + lane / 16 * 8 + lane % 8;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0.f;
  }
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4];
      load_matrices(keys + in_tile<D>(key + n * 8, k * 2 + lane / 8 % 2), b);
      mma_bf16(q[k], {b[0], b[1]}, scores[n]);
      mma_bf16(q[k], {b[2], b[3]}, scores[n + 1]);
    }
  }
}

// sums += weights v for the same keys.
template <int D, int kTiles>
__device__ void add_values(
    const float (&weights)[kTiles][4], const Bf16* values, int first, float (&sums)[D / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int key = first + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
  for (int k = 0; k < kTiles / 2; ++k) {
    const float(&low)[4] = weights[2 * k];
    const float(&high)[4] = weights[2 * k + 1];
    const uint32_t a[4] = {
        pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
        pack_bf16(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < D / 16; ++n) {
      uint32_t b[4];
      load_matrices_transposed(values + in_tile<D>(key + k * 16, n * 2 + lane / 16), b);
      mma_bf16(a, {b[0], b[1]}, sums[2 * n]);
      mma_bf16(a, {b[2], b[3]}, sums[2 * n + 1]);
    }
  }
}

// What a lane knows of its two rows, group and group + 8.
struct RowState {
  int last[2];   // position
  float top[2];  // largest score so far
  float sum[2];  // of the weights of the lane's own columns
};

// Turns scores into weights. `first` is the position of the lane's first column; masked: some row
// does not see all keys.
template <int kTiles, int kColumns>
__device__ void weigh_keys(
    float scale,
    int first,
    bool masked,
    RowState& rows,
    float (&scores)[kTiles][4],
    float (&sums)[kColumns][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = rows.top[half];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& score = scores[n][half * 2 + i];
        score *= scale;
        if (masked && first + n * 8 + i > rows.last[half]) score = -INFINITY;
        top = fmaxf(top, score);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
    top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
    const float base = top == -INFINITY ? 0.f : top;  // a row may see no key of its first tile
    const float shrink = exp2f(rows.top[half] - base);
    float sum = 0.f;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float& weight = scores[n][half * 2 + i];
        weight = exp2f(weight - base);
        sum += weight;
      }
    }
    rows.sum[half] = rows.sum[half] * shrink + sum;
    rows.top[half] = top;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      sums[n][half * 2] *= shrink;
      sums[n][half * 2 + 1] *= shrink;
    }
  }
}

// Where the output of a tile's row goes.
struct RowOutput {
  const Attention& a;
  const RowTile& tile;
  int heads;  // query heads of the kv head
  int kv_head;
  int64_t block;  // which counts parts
  int splits_used;

  __device__ Bf16* row(int r) const {
    const int token = tile.token + (tile.first + r) / heads;
    const int head = kv_head * heads + (tile.first + r) % heads;
    return a.out.row<Bf16>(token) + static_cast<int64_t>(head) * a.kv.head_dim;
  }
  // Two neighbours of a row, not yet divided by its sum.
  template <int kRows>
  __device__ void write(int r, int column, float x, float y, float sum) const {
    if (splits_used == 1) {
      *reinterpret_cast<uint32_t*>(row(r) + column) = pack_bf16(x / sum, y / sum);
    } else {
      float* to = partial_of(a, block * kRows + r, static_cast<int>(blockIdx.z)) + column;
      *reinterpret_cast<float2*>(to) = make_float2(x, y);
    }
  }
  template <int kRows>
  __device__ void write_state(int r, float top, float sum) const {
    if (splits_used == 1) return;
    float* to = partial_of(a, block * kRows + r, static_cast<int>(blockIdx.z)) + a.kv.head_dim;
    *reinterpret_cast<float2*>(to) = make_float2(top, sum);
  }
};

// Rows that one warp saw whole.
template <int D>
__device__ void write_rows(
    const RowOutput& out, const RowState& rows, const float (&sums)[D / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = static_cast<int>(threadIdx.x) / 32 * kRowsOfWarp + lane / 4 + half * 8;
    if (out.tile.first + r >= out.tile.rows) continue;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      out.write<kWarps * kRowsOfWarp>(
          r, n * 8 + lane % 4 * 2, sums[n][half * 2], sums[n][half * 2 + 1], rows.sum[half]);
    }
    if (lane % 4 == 0) {
      out.write_state<kWarps * kRowsOfWarp>(r, rows.top[half], rows.sum[half]);
    }
  }
}

// Rows of which each warp saw other keys. parts: shared memory of two tiles of keys, no longer
// needed, which holds [kWarps, 16, D] f32.
template <int D>
__device__ void merge_rows(
    const RowOutput& out, const RowState& rows, const float (&sums)[D / 8][4], float* parts) {
  using States = float[kWarps][kRowsOfWarp][2];
  States& states = shared<States, struct WarpStates>();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = lane / 4 + half * 8;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      float* to = parts + (warp * kRowsOfWarp + r) * D + n * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = make_float2(sums[n][half * 2], sums[n][half * 2 + 1]);
    }
    states[warp][r][0] = rows.top[half];
    states[warp][r][1] = rows.sum[half];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kRowsOfWarp * D / 2; i += kThreads) {
    const int r = i / (D / 2);
    const int column = i % (D / 2) * 2;
    if (out.tile.first + r >= out.tile.rows) break;
    float top = -INFINITY;
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, states[w][r][0]);
    const float base = top == -INFINITY ? 0.f : top;
    float x = 0.f;
    float y = 0.f;
    float sum = 0.f;
    for (int w = 0; w < kWarps; ++w) {
      const float weight = exp2f(states[w][r][0] - base);
      const float* from = parts + (w * kRowsOfWarp + r) * D + column;
      x += weight * from[0];
      y += weight * from[1];
      sum += weight * states[w][r][1];
    }
    out.write<kRowsOfWarp>(r, column, x, y, sum);
    if (column == 0) out.write_state<kRowsOfWarp>(r, top, sum);
  }
}

// The lane's part of 16 query rows from row `first` of the tile on, and their last positions.
// Behind the sequence's rows the last one is repeated; nobody writes it.
template <int D>
__device__ void load_queries(
    const RowOutput& at, int first, uint32_t (&q)[D / 16][4], RowState& rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = at_most(at.tile.rows - 1, at.tile.first + first + lane / 4 + half * 8);
    const int token = at.tile.token + r / at.heads;
    const int head = at.kv_head * at.heads + r % at.heads;
    const Bf16* from = at.a.q.row<Bf16>(token) + head * D + lane % 4 * 2;
#pragma unroll
    for (int k = 0; k < D / 16; ++k) {
      q[k][half] = *reinterpret_cast<const uint32_t*>(from + k * 16);
      q[k][half + 2] = *reinterpret_cast<const uint32_t*>(from + k * 16 + 8);
    }
    rows.last[half] = at.a.batch.positions[token];
    rows.top[half] = -INFINITY;
    rows.sum[half] = 0.f;
  }
}

// Blocks (tile of kRows query rows, kv head, split). Dynamic shared memory: a tile of keys, a tile
// of values.
template <int D, int kRows>
__global__ void __launch_bounds__(kThreads, kRows > kRowsOfWarp ? 2 : (D > 64 ? 3 : 4))
    attention_tensor_kernel(const __grid_constant__ Attention a) {
  constexpr bool kShareKeys = kRows == kRowsOfWarp;  // the warps, of the same rows
  constexpr int kTiles = kKeyTile / 8 / (kShareKeys ? kWarps : 1);
  using Offsets = int64_t[2][kKeyTile];
  Offsets& offsets = shared<Offsets, struct TileOffsets>();
  Bf16* const keys = dynamic_shared<Bf16>();
  Bf16* const values = keys + kKeyTile * D;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / 32;
  const int heads = static_cast<int>(a.q.cols) / D / a.kv.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.y);
  // The last tiles of a prompt see most keys: they go first.
  const RowTile tile = find_tile<kRows>(a, heads, static_cast<int>(gridDim.x - 1 - blockIdx.x));
  if (tile.first >= tile.rows) return;
  const int last_row = at_most(tile.rows, tile.first + kRows) - 1;
  const int context = a.batch.positions[tile.token + last_row / heads] + 1;
  const int seen_by_all = a.batch.positions[tile.token + tile.first / heads] + 1;
  const int used = splits_in_use(context, a.splits);
  const int split = static_cast<int>(blockIdx.z);
  if (split >= used) return;
  const KeyRange range = keys_of_split(context, a.splits, split);
  const int32_t* pages = a.batch.page_table + tile.sequence * a.batch.max_pages;
  const int64_t block = static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  const RowOutput out{a, tile, heads, kv_head, block, used};

  uint32_t q[D / 16][4];
  RowState rows;
  load_queries<D>(out, kShareKeys ? 0 : warp * kRowsOfWarp, q, rows);
  float sums[D / 8][4] = {};
  const int first_key = kShareKeys ? warp * (kKeyTile / kWarps) : 0;  // of this warp, in a tile
  const auto find_keys = [&](int from, int buffer) {
    if (thread >= kKeyTile || from + thread >= range.end) return;
    offsets[buffer][thread] = cache_offset(a.kv, pages, kv_head, from + thread);
  };
  find_keys(range.begin, 0);
  __syncthreads();
  copy_tile<D>(static_cast<const Bf16*>(a.kv.keys), offsets[0], range.end - range.begin, keys);
  int turn = 0;
  for (int first = range.begin; first < range.end; first += kKeyTile, turn ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    copy_tile<D>(static_cast<const Bf16*>(a.kv.values), offsets[turn], range.end - first, values);
    find_keys(first + kKeyTile, turn ^ 1);
    float scores[kTiles][4];
    score_keys<D, kTiles>(q, keys, first_key, scores);
    // Both bring the next keys on their way. Decode waits for memory all the time, so it does that
    // before it waits for the values, at the price of a barrier.
    const auto copy_next_keys = [&] {
      if (first + kKeyTile >= range.end) return commit_copies();
      copy_tile<D>(
          static_cast<const Bf16*>(a.kv.keys), offsets[turn ^ 1], range.end - first - kKeyTile,
          keys);
    };
    if constexpr (kShareKeys) {
      __syncthreads();
      copy_next_keys();
      wait_for_copies<1>();
      __syncthreads();
    } else {
      wait_for_copies<0>();
      __syncthreads();
      copy_next_keys();
    }
    weigh_keys(
        a.scale * kLog2E, first + first_key + thread % 4 * 2, first + kKeyTile > seen_by_all, rows,
        scores, sums);
    add_values<D, kTiles>(scores, values, first_key, sums);
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    rows.sum[half] += __shfl_xor_sync(kAllLanes, rows.sum[half], 1);
    rows.sum[half] += __shfl_xor_sync(kAllLanes, rows.sum[half], 2);
  }
  if constexpr (kShareKeys) {
    merge_rows<D>(out, rows, sums, reinterpret_cast<float*>(keys));
  } else {
    write_rows<D>(out, rows, sums);
  }
  if (used == 1 || !last_to_arrive(a.arrived + block, static_cast<unsigned>(used))) return;
  for (int r = warp; r <= last_row - tile.first; r += kWarps) {
    combine_row<Bf16>(a, block * kRows + r, used, out.row(r));
  }
}

template <int D, int kRows>
void launch_tiles(const Attention& a, cudaStream_t stream) {
  const AttentionGrid grid = tensor_attention_grid<kRows>(a);
  launch(
      attention_tensor_kernel<D, kRows>,
      {.blocks = dim3(
           static_cast<unsigned>(grid.tiles), static_cast<unsigned>(grid.heads),
           static_cast<unsigned>(a.splits)),
       .threads = kThreads,
       .shared_bytes = 2 * kKeyTile * D * static_cast<int64_t>(sizeof(Bf16)),
       .stream = stream},
      a);
}

bool aligned(const void* data, uintptr_t bytes) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

}  // namespace

bool has_tensor_attention(const Attention& a) {
  if (a.q.dtype != DType::kBf16 || (a.kv.head_dim != 64 && a.kv.head_dim != 128)) return false;
  return aligned(a.kv.keys, 16) && aligned(a.kv.values, 16) && aligned(a.q.data, 4) &&
         aligned(a.out.data, 4) && a.q.stride % 2 == 0 && a.out.stride % 2 == 0;
}

template <int kRows>
AttentionGrid tensor_attention_grid(const Attention& a) {
  const int64_t heads = a.q.cols / a.kv.head_dim / a.kv.kv_heads;
  const int64_t tiles = a.tokens == Tokens::kOne ? a.batch.sequences * ((heads + kRows - 1) / kRows)
                                                 : a.q.rows * heads / kRows + a.batch.sequences;
  return {.tiles = tiles, .heads = a.kv.kv_heads, .rows = kRows};
}

template <int kRows>
void launch_tensor_attention(const Attention& a, cudaStream_t stream) {
  if (a.kv.head_dim == 64) return launch_tiles<64, kRows>(a, stream);
  launch_tiles<128, kRows>(a, stream);
}

template AttentionGrid tensor_attention_grid<16>(const Attention& a);
template AttentionGrid tensor_attention_grid<64>(const Attention& a);
template void launch_tensor_attention<16>(const Attention& a, cudaStream_t stream);
template void launch_tensor_attention<64>(const Attention& a, cudaStream_t stream);

}  // namespace engram::engine::cuda

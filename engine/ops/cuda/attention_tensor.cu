// Paged attention on tensor cores: a block per tile of query rows, kv head, and split of the keys.
//
// The rows of a sequence and a kv head are its tokens times the query heads of that kv head, so
// that a key is read once for all of them. A block of four warps has 64 rows, 16 per warp, which
// see all keys; or 16 rows, of which each warp sees a quarter of the keys, for decode. Keys and
// values come tile by tile to shared memory: the values of a tile while the scores are computed,
// the keys of the next one while the values are summed.
// Codes of e4m3 come through registers and are made bf16 on their way to shared memory. Their
// scales meet the scores and the weights, which is exact. Softmax weights are rounded to bf16
// before they meet the values. Of the keys of a tile that a row does not see the weight is 0, so a
// value that is not a number spoils all rows of its tile. Source: Dao 2023, "FlashAttention-2".
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

// A thread's part of a tile of codes on its way: read early, written when the tile before it is no
// longer needed.
template <int D>
struct CodesOnTheWay {
  static constexpr int kChunks = D / 16;  // accesses of 16 codes of a row
  static constexpr int kCopies = kKeyTile * kChunks / kThreads;
  Pack<uint32_t, 4> words[kCopies];

  // The rows of `count` keys or values; rows behind become zero.
  __device__ void read(const void* from, const int64_t* offsets, int count) {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int key = static_cast<int>(threadIdx.x) / kChunks + i * (kThreads / kChunks);
      words[i] = {};
      if (key >= count) continue;
      const char* row = static_cast<const char*>(from) + offsets[key];
      words[i] = load_pack<uint32_t, 4>(reinterpret_cast<const uint32_t*>(row) + chunk * 4);
    }
  }
  __device__ void write(Bf16* to) const {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int key = static_cast<int>(threadIdx.x) / kChunks + i * (kThreads / kChunks);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t pairs[2][2];
        widen_codes(words[i].v[half * 2], pairs[0]);
        widen_codes(words[i].v[half * 2 + 1], pairs[1]);
        const Pack<uint32_t, 4> wide = {pairs[0][0], pairs[0][1], pairs[1][0], pairs[1][1]};
        Bf16* const at = to + in_tile<D>(key, chunk * 2 + half);
        store_pack<uint32_t, 4>(wide, reinterpret_cast<uint32_t*>(at));
      }
    }
  }
};

// Multiplies the columns that a lane holds; `scales` are those of the warp's keys.
template <int kTiles>
__device__ void scale_columns(const float* scales, float (&columns)[kTiles][4]) {
  const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) columns[n][i] *= scales[n * 8 + column + i % 2];
  }
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

// What the loops over the keys are about.
struct KeyLoop {
  const KvLayer& kv;
  const int32_t* pages;
  int kv_head;
  KeyRange range;
  int first_key;    // of this warp, in a tile
  int seen_by_all;  // keys that every row sees
  float scale;
  Bf16* keys;  // the tiles in shared memory
  Bf16* values;

  __device__ void weigh(int first, RowState& rows, auto& scores, auto& sums) const {
    weigh_keys(
        scale, first + first_key + static_cast<int>(threadIdx.x) % 4 * 2,
        first + kKeyTile > seen_by_all, rows, scores, sums);
  }
};

// A cache of bf16. kShareKeys: the warps, of the same rows.
template <int D, bool kShareKeys>
__device__ void attend_numbers(
    const KeyLoop& at, const uint32_t (&q)[D / 16][4], RowState& rows, float (&sums)[D / 8][4]) {
  constexpr int kTiles = kKeyTile / 8 / (kShareKeys ? kWarps : 1);
  using Offsets = int64_t[2][kKeyTile];
  Offsets& offsets = shared<Offsets, struct TileOffsets>();
  const int thread = static_cast<int>(threadIdx.x);
  const Bf16* const cached_keys = static_cast<const Bf16*>(at.kv.keys);
  const Bf16* const cached_values = static_cast<const Bf16*>(at.kv.values);
  const KeyRange range = at.range;
  const auto find_keys = [&](int from, int buffer) {
    if (thread >= kKeyTile || from + thread >= range.end) return;
    offsets[buffer][thread] = cache_row(at.kv, at.pages, at.kv_head, from + thread) * D;
  };
  find_keys(range.begin, 0);
  __syncthreads();
  copy_tile<D>(cached_keys, offsets[0], range.end - range.begin, at.keys);
  int turn = 0;
  for (int first = range.begin; first < range.end; first += kKeyTile, turn ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    copy_tile<D>(cached_values, offsets[turn], range.end - first, at.values);
    find_keys(first + kKeyTile, turn ^ 1);
    float scores[kTiles][4];
    score_keys<D, kTiles>(q, at.keys, at.first_key, scores);
    // Both bring the next keys on their way. Decode waits for memory all the time, so it does that
    // before it waits for the values, at the price of a barrier.
    const auto copy_next_keys = [&] {
      if (first + kKeyTile >= range.end) return commit_copies();
      copy_tile<D>(cached_keys, offsets[turn ^ 1], range.end - first - kKeyTile, at.keys);
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
    at.weigh(first, rows, scores, sums);
    add_values<D, kTiles>(scores, at.values, at.first_key, sums);
  }
}

// A cache of e4m3. Keys and values of the next tile are on their way while this one is worked on.
template <int D, bool kShareKeys>
__device__ void attend_codes(
    const KeyLoop& at, const uint32_t (&q)[D / 16][4], RowState& rows, float (&sums)[D / 8][4]) {
  constexpr int kTiles = kKeyTile / 8 / (kShareKeys ? kWarps : 1);
  struct Found {
    int64_t offsets[kKeyTile];
    float key_scales[kKeyTile];
    float value_scales[kKeyTile];
  };
  using FoundKeys = Found[2];
  FoundKeys& found = shared<FoundKeys, struct TileCodes>();
  const int thread = static_cast<int>(threadIdx.x);
  const KeyRange range = at.range;
  const auto find_keys = [&](int from, Found& to) {
    if (thread >= kKeyTile) return;
    const bool there = from + thread < range.end;
    const int64_t row = there ? cache_row(at.kv, at.pages, at.kv_head, from + thread) : 0;
    to.offsets[thread] = row * D;
    to.key_scales[thread] = there ? widen_e8m0(at.kv.key_scales[row]) : 0.f;
    to.value_scales[thread] = there ? widen_e8m0(at.kv.value_scales[row]) : 0.f;
  };
  CodesOnTheWay<D> keys;
  CodesOnTheWay<D> values;
  const auto read = [&](int from, const Found& tile) {
    keys.read(at.kv.keys, tile.offsets, range.end - from);
    values.read(at.kv.values, tile.offsets, range.end - from);
  };
  find_keys(range.begin, found[0]);
  __syncthreads();
  read(range.begin, found[0]);
  int turn = 0;
  for (int first = range.begin; first < range.end; first += kKeyTile, turn ^= 1) {
    keys.write(at.keys);
    values.write(at.values);
    find_keys(first + kKeyTile, found[turn ^ 1]);
    __syncthreads();
    if (first + kKeyTile < range.end) read(first + kKeyTile, found[turn ^ 1]);
    float scores[kTiles][4];
    score_keys<D, kTiles>(q, at.keys, at.first_key, scores);
    scale_columns(found[turn].key_scales + at.first_key, scores);
    at.weigh(first, rows, scores, sums);
    scale_columns(found[turn].value_scales + at.first_key, scores);
    add_values<D, kTiles>(scores, at.values, at.first_key, sums);
    __syncthreads();
  }
}

// Blocks (tile of kRows query rows, kv head, split). C: the cache's elements. Dynamic shared
// memory: a tile of keys, a tile of values.
template <int D, int kRows, typename C>
__global__ void __launch_bounds__(kThreads, kRows > kRowsOfWarp ? 2 : (D > 64 ? 3 : 4))
    attention_tensor_kernel(const __grid_constant__ Attention a) {
  wait_for_turn();
  constexpr bool kShareKeys = kRows == kRowsOfWarp;  // the warps, of the same rows
  Bf16* const keys = dynamic_shared<Bf16>();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int heads = static_cast<int>(a.q.cols) / D / a.kv.kv_heads;
  const int kv_head = static_cast<int>(blockIdx.y);
  // The last tiles of a prompt see most keys: they go first.
  const RowTile tile = find_tile<kRows>(a, heads, static_cast<int>(gridDim.x - 1 - blockIdx.x));
  if (tile.first >= tile.rows) return;
  const int last_row = at_most(tile.rows, tile.first + kRows) - 1;
  const int context = a.batch.positions[tile.token + last_row / heads] + 1;
  const int used = splits_in_use(context, a.splits);
  const int split = static_cast<int>(blockIdx.z);
  if (split >= used) return;
  const int64_t block = static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  const RowOutput out{a, tile, heads, kv_head, block, used};

  uint32_t q[D / 16][4];
  RowState rows;
  load_queries<D>(out, kShareKeys ? 0 : warp * kRowsOfWarp, q, rows);
  float sums[D / 8][4] = {};
  const KeyLoop loop{
      .kv = a.kv,
      .pages = a.batch.page_table + tile.sequence * a.batch.max_pages,
      .kv_head = kv_head,
      .range = keys_of_split(context, a.splits, split),
      .first_key = kShareKeys ? warp * (kKeyTile / kWarps) : 0,
      .seen_by_all = a.batch.positions[tile.token + tile.first / heads] + 1,
      .scale = a.scale * kLog2E,
      .keys = keys,
      .values = keys + kKeyTile * D};
  if constexpr (sizeof(C) == 1) {
    attend_codes<D, kShareKeys>(loop, q, rows, sums);
  } else {
    attend_numbers<D, kShareKeys>(loop, q, rows, sums);
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

template <int D, int kRows, typename C>
void launch_tiles(const Attention& a, cudaStream_t stream) {
  const AttentionGrid grid = tensor_attention_grid<kRows>(a);
  launch(
      attention_tensor_kernel<D, kRows, C>,
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
  const bool wide = a.kv.head_dim == 128;
  if (a.kv.dtype == DType::kF8E4m3) {
    return wide ? launch_tiles<128, kRows, E4m3>(a, stream)
                : launch_tiles<64, kRows, E4m3>(a, stream);
  }
  return wide ? launch_tiles<128, kRows, Bf16>(a, stream)
              : launch_tiles<64, kRows, Bf16>(a, stream);
}

template AttentionGrid tensor_attention_grid<16>(const Attention& a);
template AttentionGrid tensor_attention_grid<64>(const Attention& a);
template void launch_tensor_attention<16>(const Attention& a, cudaStream_t stream);
template void launch_tensor_attention<64>(const Attention& a, cudaStream_t stream);

}  // namespace engram::engine::cuda

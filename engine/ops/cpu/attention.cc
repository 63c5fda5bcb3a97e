// Causal attention over the paged cache, the same code for prompts and for single tokens.
//
// Rows (a token's query head) that share a kv head are worked on together, so that a block of keys
// is read and laid out once for all of them. Whatever the company, a row sees the same operations
// in the same order: blocks of kKeys keys, aligned to absolute positions, ascending; within a block
// each score is a sum over the head's elements in order, each output a sum over the keys in order.
// Softmax is online: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax".
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
//
#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops/cpu/attention_blocks-inl.h"
#include "engine/ops/cpu/attention_plan.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/cpu/split_rows.h"
#include "engine/ops/op_args.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

constexpr int64_t kKeyVectors = kKeys / kLanes;
constexpr int kScoreRows = kLanes >= 16 ? 8 : (kLanes >= 8 ? 2 : 1);  // rows of a register tile
constexpr int kValueRows = kLanes >= 16 ? 4 : 2;
constexpr int kValueVectors = 4;
static_assert(kKeys % kLanes == 0);
static_assert(kGroup % kLanes == 0);

// scores[r][k] = <q[r], key k> of kRows rows and all keys of the block.
template <int kRows>
HWY_INLINE void score_rows(const AttentionTile& tile, const float* q, float* scores) {
  VF sum[kRows][kKeyVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < kKeyVectors; ++v) sum[r][v] = hn::Zero(Floats());
  }
  for (int64_t c = 0; c < tile.width; ++c) {
    VF key[kKeyVectors];
    for (int64_t v = 0; v < kKeyVectors; ++v) {
      const int64_t first = v * kLanes;
      const float* group = tile.keys + first / kGroup * kGroup * tile.width;
      key[v] = hn::Load(Floats(), group + c * kGroup + first % kGroup);
    }
    for (int r = 0; r < kRows; ++r) {
      const VF x = hn::Set(Floats(), q[r * tile.width + c]);
      for (int64_t v = 0; v < kKeyVectors; ++v) sum[r][v] = hn::MulAdd(x, key[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int64_t v = 0; v < kKeyVectors; ++v) {
      hn::Store(sum[r][v], Floats(), scores + r * kKeys + v * kLanes);
    }
  }
}

// Scores of one row become weights relative to the row's new maximum; returns the factor by which
// what was summed before shrinks.
HWY_INLINE float weigh_row(float* scores, int64_t valid, float* top, float* sum) {
  const VF none = hn::Set(Floats(), -std::numeric_limits<float>::infinity());
  VF score[kKeyVectors];
  VF most = hn::Set(Floats(), *top);
  for (int64_t v = 0; v < kKeyVectors; ++v) {
    score[v] = hn::Load(Floats(), scores + v * kLanes);
    if (valid < (v + 1) * kLanes) {
      const VF index = hn::Iota(Floats(), static_cast<float>(v * kLanes));
      const auto live = hn::Lt(index, hn::Set(Floats(), static_cast<float>(valid)));
      score[v] = hn::IfThenElse(live, score[v], none);
    }
    most = hn::Max(most, score[v]);
  }
  const float new_top = max_lanes(most);
  const VF base = hn::Set(Floats(), new_top);
  VF total = hn::Zero(Floats());
  for (int64_t v = 0; v < kKeyVectors; ++v) {
    const VF weight = exp_lanes(hn::Sub(score[v], base));
    hn::Store(weight, Floats(), scores + v * kLanes);
    total = hn::Add(total, weight);
  }
  float shrink = 1.f;
  if (new_top != *top) {
    shrink = hn::GetLane(exp_lanes(hn::Set(Floats(), *top - new_top)));
    *top = new_top;
  }
  *sum = std::fma(*sum, shrink, sum_lanes(total));
  return shrink;
}

// out[r] = out[r] * shrink[r] + sum over keys of weight[r][k] * value k, for kRows rows and
// kVectors vectors of columns.
template <int kRows, int kVectors>
HWY_INLINE void add_values(
    const AttentionTile& tile,
    const float* weights,
    int64_t valid,
    const float* shrink,
    float* out,
    int64_t column) {
  VF sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    const VF factor = hn::Set(Floats(), shrink[r]);
    for (int v = 0; v < kVectors; ++v) {
      const float* at = out + r * tile.padded + column + v * kLanes;
      sum[r][v] = hn::Mul(hn::Load(Floats(), at), factor);
    }
  }
  for (int64_t k = 0; k < valid; ++k) {
    VF value[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      value[v] = hn::Load(Floats(), tile.values + k * tile.padded + column + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const VF weight = hn::Set(Floats(), weights[r * kKeys + k]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(weight, value[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(sum[r][v], Floats(), out + r * tile.padded + column + v * kLanes);
    }
  }
}

template <int kRows>
HWY_INLINE void add_values_of_rows(AttentionTile& tile, int64_t row, int64_t valid) {
  const float* weights = tile.weights + row * kKeys;
  const float* shrink = tile.shrink + row;
  float* out = tile.out + row * tile.padded;
  int64_t c = 0;
  for (; c + kValueVectors * kLanes <= tile.padded; c += kValueVectors * kLanes) {
    add_values<kRows, kValueVectors>(tile, weights, valid, shrink, out, c);
  }
  for (; c < tile.padded; c += kLanes) {
    add_values<kRows, 1>(tile, weights, valid, shrink, out, c);
  }
}

// The tile of exactly `rows` rows, 1 <= rows <= kMost: a row alone would wait for its own sums.
template <int kMost>
HWY_INLINE void score_tile(AttentionTile& tile, int64_t row, int64_t rows) {
  if (rows == kMost) {
    score_rows<kMost>(tile, tile.q + row * tile.width, tile.weights + row * kKeys);
  } else if constexpr (kMost > 1) {
    score_tile<kMost - 1>(tile, row, rows);
  }
}

template <int kMost>
HWY_INLINE void value_tile(AttentionTile& tile, int64_t row, int64_t rows, int64_t valid) {
  if (rows == kMost) {
    add_values_of_rows<kMost>(tile, row, valid);
  } else if constexpr (kMost > 1) {
    value_tile<kMost - 1>(tile, row, rows, valid);
  }
}

// One block of keys for the rows [begin, end) of the tile, each of which sees `valid` of them.
HWY_NOINLINE void attend_block(AttentionTile& tile, int64_t begin, int64_t end, int64_t valid) {
  for (int64_t r = begin; r < end; r += kScoreRows) {
    score_tile<kScoreRows>(tile, r, std::min<int64_t>(kScoreRows, end - r));
  }
  for (int64_t r = begin; r < end; ++r) {
    tile.shrink[r] = weigh_row(tile.weights + r * kKeys, valid, tile.top + r, tile.sum + r);
  }
  for (int64_t r = begin; r < end; r += kValueRows) {
    value_tile<kValueRows>(tile, r, std::min<int64_t>(kValueRows, end - r), valid);
  }
}

// The rows [begin, end) of kv head `head` in sequence s: row (token - first token) * heads + query
// head. Both ends lie in the same sequence.
template <typename T>
void attend_rows(const Attention& a, const TileRows& rows, AttentionTile& tile) {
  const int64_t heads = rows.heads;
  const int64_t count = rows.end - rows.begin;
  const auto token_of = [&](int64_t r) { return rows.token + (rows.begin + r) / heads; };
  const auto column_of = [&](int64_t r) {
    return (rows.kv_head * heads + (rows.begin + r) % heads) * tile.width;
  };
  for (int64_t r = 0; r < count; ++r) {
    const T* q = a.q.row<T>(token_of(r)) + column_of(r);
    const VF scale = hn::Set(Floats(), a.scale);
    for (int64_t c = 0; c < tile.width; c += kLanes) {
      store_part(
          hn::Mul(load_part(q + c, tile.width - c), scale), tile.q + r * tile.width + c,
          tile.width - c);
    }
    std::fill_n(tile.out + r * tile.padded, tile.padded, 0.f);
    tile.top[r] = -std::numeric_limits<float>::infinity();
    tile.sum[r] = 0.f;
  }
  const int32_t* pages = a.batch.page_table + rows.sequence * a.batch.max_pages;
  const int64_t last = a.batch.positions[token_of(count - 1)];
  int64_t r = 0;  // rows before it see nothing of this block
  for (int64_t first = 0; first <= last; first += kKeys) {
    load_block(a, pages, rows.kv_head, first, std::min(kKeys, last + 1 - first), tile);
    while (a.batch.positions[token_of(r)] < first) ++r;
    for (int64_t begin = r; begin < count;) {
      const int64_t valid = std::min(kKeys, a.batch.positions[token_of(begin)] + 1 - first);
      int64_t end = begin + 1;
      while (end < count &&
             std::min(kKeys, a.batch.positions[token_of(end)] + 1 - first) == valid) {
        ++end;
      }
      attend_block(tile, begin, end, valid);
      begin = end;
    }
  }
  for (r = 0; r < count; ++r) {
    T* out = a.out.row<T>(token_of(r)) + column_of(r);
    const VF sum = hn::Set(Floats(), tile.sum[r]);
    for (int64_t c = 0; c < tile.width; c += kLanes) {
      const VF v = hn::Load(Floats(), tile.out + r * tile.padded + c);
      store_part(hn::Div(v, sum), out + c, tile.width - c);
    }
  }
}

void attention_rows(const Attention& args, const TileRows& rows) {
  AttentionTile tile;
  tile.width = args.kv.head_dim;
  tile.padded = padded_width(args.kv.head_dim);
  memory::with_activation_type(
      args.q.dtype, [&]<typename T>(memory::Type<T>) { attend_rows<T>(args, rows, tile); });
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {
namespace {

HWY_EXPORT(attention_rows);

// The tokens [begin, end) of the step and one kv head: one piece per sequence and per full tile.
void attend_tokens(const Attention& a, int64_t begin, int64_t end, int64_t kv_head) {
  const int64_t heads = a.q.cols / a.kv.head_dim / a.kv.kv_heads;
  const int64_t most = tile_rows(a.kv.head_dim);
  while (begin < end) {
    const int64_t sequence = a.batch.sequence_of[begin];
    const int64_t stop = std::min<int64_t>(end, a.batch.token_begin[sequence + 1]);
    const int64_t rows = (stop - begin) * heads;
    for (int64_t row = 0; row < rows; row += most) {
      HWY_DYNAMIC_DISPATCH(attention_rows)
      (a, {.sequence = sequence,
           .token = begin,
           .kv_head = kv_head,
           .heads = heads,
           .begin = row,
           .end = std::min(rows, row + most)});
    }
    begin = stop;
  }
}

// Tokens per part: a whole tile where there are enough, fewer when that would leave threads idle.
int64_t tokens_per_part(const Attention& a, int threads) {
  const int64_t heads = a.q.cols / a.kv.head_dim / a.kv.kv_heads;
  const int64_t full = std::max<int64_t>(1, tile_rows(a.kv.head_dim) / heads);
  const int64_t fair = a.q.rows * a.kv.kv_heads / (4 * threads);
  return std::clamp<int64_t>(fair, 1, full);
}

// Elements of keys and values that are read, about.
int64_t elements_read(const Attention& a) {
  int64_t sum = 0;
  for (int64_t t = 0; t < a.q.rows; ++t) sum += a.batch.positions[t] + 1;
  return 2 * sum * a.kv.kv_heads * a.kv.head_dim;
}

}  // namespace

void CpuOps::do_attention(
    Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out) {
  const Attention args{batch, q, kv, scale, out};
  as_cpu(stream).enqueue([args, this] {
    const int64_t step = tokens_per_part(args, device_.workers().threads());
    const int64_t tokens = args.q.rows;
    const int64_t kv_heads = args.kv.kv_heads;
    const int64_t parts = (tokens + step - 1) / step * kv_heads;
    // The last tokens of a prompt see most keys: the longest parts go first.
    const auto part = [&](int64_t i) {
      const int64_t begin = (parts - 1 - i) / kv_heads * step;
      attend_tokens(args, begin, std::min(tokens, begin + step), i % kv_heads);
    };
    if (elements_read(args) < 2 * kPartElements) {
      for (int64_t i = 0; i < parts; ++i) part(i);
    } else {
      device_.workers().run(parts, part);
    }
  });
}

}  // namespace engram::engine::cpu
#endif

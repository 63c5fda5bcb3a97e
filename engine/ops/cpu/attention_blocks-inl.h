// Blocks of keys and values, read from the pages of any cache dtype and laid out in f32 for the
// attention of each vector target. Included once per target, see Highway's foreach_target.h.
#if defined(ENGRAM_ENGINE_OPS_CPU_ATTENTION_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_ENGINE_OPS_CPU_ATTENTION_BLOCKS_INL_H_
#undef ENGRAM_ENGINE_OPS_CPU_ATTENTION_BLOCKS_INL_H_
#else
#define ENGRAM_ENGINE_OPS_CPU_ATTENTION_BLOCKS_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/ops/cpu/attention_plan.h"
#include "engine/ops/cpu/kv_fp8-inl.h"
#include "engine/ops/cpu/lanes-inl.h"
#include "engine/ops/op_args.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

// Lays out 16 rows of `words` u32 words as columns: to[word * 16 + row]. Two rounds of
// interleaving by four.
HWY_INLINE void transpose_group(const char* const* rows, int64_t words, float* to) {
  const Words d;
  uint32_t* out = reinterpret_cast<uint32_t*>(to);
  alignas(64) uint32_t quarter[4][4 * kLanes];
  const auto row_words = [&](int64_t row, int64_t w) HWY_ATTR {
    return hn::LoadU(d, reinterpret_cast<const uint32_t*>(rows[row]) + w);
  };
  int64_t w = 0;
  for (; w + kLanes <= words; w += kLanes) {
    for (int64_t j = 0; j < 4; ++j) {
      hn::StoreInterleaved4(
          row_words(j, w), row_words(j + 4, w), row_words(j + 8, w), row_words(j + 12, w), d,
          quarter[j]);
    }
    for (int64_t e = 0; e < 4 * kLanes; e += kLanes) {
      hn::StoreInterleaved4(
          hn::Load(d, quarter[0] + e), hn::Load(d, quarter[1] + e), hn::Load(d, quarter[2] + e),
          hn::Load(d, quarter[3] + e), d, out + w * kGroup + e * 4);
    }
  }
  for (; w < words; ++w) {
    for (int64_t row = 0; row < kGroup; ++row) {
      std::memcpy(to + w * kGroup + row, rows[row] + w * 4, 4);
    }
  }
}

HWY_INLINE void lay_out_group(const float* const* rows, int64_t width, float* to) {
  const char* bytes[kGroup];
  for (int64_t i = 0; i < kGroup; ++i) bytes[i] = reinterpret_cast<const char*>(rows[i]);
  transpose_group(bytes, width, to);
}

// Two elements move as one word and part afterwards: half the shuffles.
HWY_INLINE void lay_out_group(const Bf16* const* rows, int64_t width, float* to) {
  const Words d;
  const char* bytes[kGroup];
  for (int64_t i = 0; i < kGroup; ++i) bytes[i] = reinterpret_cast<const char*>(rows[i]);
  float* pairs = to + width / 2 * kGroup;  // in the upper half: read before it is overwritten
  transpose_group(bytes, width / 2, pairs);
  for (int64_t w = 0; w < width / 2; ++w) {
    for (int64_t i = 0; i < kGroup; i += kLanes) {
      const auto pair = hn::BitCast(d, hn::Load(Floats(), pairs + w * kGroup + i));
      const auto odd = hn::And(pair, hn::Set(d, 0xffff0000u));
      hn::Store(hn::BitCast(Floats(), hn::ShiftLeft<16>(pair)), Floats(), to + 2 * w * kGroup + i);
      hn::Store(hn::BitCast(Floats(), odd), Floats(), to + (2 * w + 1) * kGroup + i);
    }
  }
}

// Four codes move as one word and part afterwards, when the lanes are keys, each with its scale.
HWY_INLINE void lay_out_codes(
    const uint8_t* const* rows, const float* scales, int64_t width, float* to) {
  const Words d;
  const char* bytes[kGroup];
  for (int64_t i = 0; i < kGroup; ++i) bytes[i] = reinterpret_cast<const char*>(rows[i]);
  const int64_t words = width / 4;
  float* fours = to + (width - words) * kGroup;  // at the end: read before it is overwritten
  transpose_group(bytes, words, fours);
  for (int64_t w = 0; w < words; ++w) {
    for (int64_t i = 0; i < kGroup; i += kLanes) {
      const auto codes = hn::BitCast(d, hn::Load(Floats(), fours + w * kGroup + i));
      const VF scale = hn::Load(Floats(), scales + i);
      float* at = to + 4 * w * kGroup + i;
      hn::Store(widen_code<0>(codes, scale), Floats(), at);
      hn::Store(widen_code<1>(codes, scale), Floats(), at + kGroup);
      hn::Store(widen_code<2>(codes, scale), Floats(), at + 2 * kGroup);
      hn::Store(widen_code<3>(codes, scale), Floats(), at + 3 * kGroup);
    }
  }
  for (int64_t c = 4 * words; c < width; ++c) {
    for (int64_t i = 0; i < kGroup; ++i) {
      to[c * kGroup + i] = memory::e4m3_to_float(rows[i][c]) * scales[i];
    }
  }
}

// Where the cache has the positions [first, first + count) of a sequence, as rows [Dh].
HWY_INLINE void find_rows(
    const KvLayer& kv,
    const int32_t* pages,
    int64_t head,
    int64_t first,
    int64_t count,
    int64_t* rows) {
  // Followed along, without a division per key.
  int64_t page = first / kv.page_tokens;
  int64_t offset = first % kv.page_tokens;
  for (int64_t k = 0; k < count; ++k) {
    rows[k] = (pages[page] * int64_t{kv.kv_heads} + head) * kv.page_tokens + offset;
    if (++offset == kv.page_tokens) {
      offset = 0;
      ++page;
    }
  }
}

template <typename C>
HWY_NOINLINE void load_numbers(
    const KvLayer& kv, const int64_t* rows, int64_t count, AttentionTile& tile) {
  alignas(64) static const C kNothing[kMaxHeadDim] = {};
  const C* keys[kKeys];
  for (int64_t k = 0; k < kKeys; ++k) {
    keys[k] = kNothing;
    if (k >= count) continue;
    const int64_t at = rows[k] * tile.width;
    keys[k] = static_cast<const C*>(kv.keys) + at;
    const C* value = static_cast<const C*>(kv.values) + at;
    float* to = tile.values + k * tile.padded;
    for (int64_t c = 0; c < tile.width; c += kLanes) {
      hn::Store(load_part(value + c, tile.width - c), Floats(), to + c);
    }
  }
  for (int64_t group = 0; group < kKeys / kGroup; ++group) {
    lay_out_group(keys + group * kGroup, tile.width, tile.keys + group * kGroup * tile.width);
  }
}

HWY_NOINLINE void load_codes(
    const KvLayer& kv, const int64_t* rows, int64_t count, AttentionTile& tile) {
  alignas(64) static const uint8_t kNothing[kMaxHeadDim] = {};
  alignas(64) uint8_t codes[2][kKeys] = {};
  alignas(64) float scales[2][kKeys];
  const uint8_t* keys[kKeys];
  for (int64_t k = 0; k < kKeys; ++k) {
    keys[k] = k < count ? static_cast<const uint8_t*>(kv.keys) + rows[k] * tile.width : kNothing;
    if (k >= count) continue;
    codes[0][k] = kv.key_scales[rows[k]];
    codes[1][k] = kv.value_scales[rows[k]];
  }
  widen_scales(codes[0], kKeys, scales[0]);
  widen_scales(codes[1], kKeys, scales[1]);
  for (int64_t k = 0; k < count; ++k) {
    widen_codes(
        static_cast<const uint8_t*>(kv.values) + rows[k] * tile.width, scales[1][k], tile.width,
        tile.values + k * tile.padded);
  }
  for (int64_t group = 0; group < kKeys / kGroup; ++group) {
    lay_out_codes(
        keys + group * kGroup, scales[0] + group * kGroup, tile.width,
        tile.keys + group * kGroup * tile.width);
  }
}

// Keys and values of the positions [first, first + count) of a sequence, widened; absent keys are
// zeros.
HWY_INLINE void load_block(
    const Attention& a,
    const int32_t* pages,
    int64_t head,
    int64_t first,
    int64_t count,
    AttentionTile& tile) {
  int64_t rows[kKeys];
  find_rows(a.kv, pages, head, first, count, rows);
  if (a.kv.dtype == DType::kF8E4m3) return load_codes(a.kv, rows, count, tile);
  if (a.kv.dtype == DType::kBf16) return load_numbers<Bf16>(a.kv, rows, count, tile);
  load_numbers<float>(a.kv, rows, count, tile);
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

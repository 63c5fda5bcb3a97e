#include "engine/ops/cpu/linear_fp8.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/linear_fp8.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/ops/cpu/linear_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

constexpr int64_t kPiece = kScaleCols;
static_assert(kInputs % kPiece == 0);

using Half = hn::CappedTag<int16_t, 32>;
constexpr int64_t kHalfLanes = static_cast<int64_t>(hn::MaxLanes(Half()));

// Codes of the inputs k and k + 1 (k even) of a panel to f16, out[2][32]. Each 16-bit word holds
// the codes of both: the bits of a code, moved to the place of f16's, whose exponent has a bias
// that is 8 larger. Subnormal codes become subnormal f16, which widening takes at full speed.
HWY_INLINE void decode_pair(const char* codes, int64_t k, uint16_t* out) {
  const Half d;
  const auto kept = hn::Set(d, static_cast<int16_t>(0xbf80));
  const int16_t* words = reinterpret_cast<const int16_t*>(codes) + k * 16;
  int16_t* halves = reinterpret_cast<int16_t*>(out);
  prefetch_lines<64>(codes, k / 2);
  for (int64_t i = 0; i < kPanelRows; i += kHalfLanes) {
    const auto both = hn::LoadU(d, words + i);
    const auto even = hn::ShiftRight<1>(hn::ShiftLeft<8>(both));
    const auto odd = hn::ShiftRight<1>(both);
    hn::Store(hn::And(even, kept), d, halves + i);
    hn::Store(hn::And(odd, kept), d, halves + 32 + i);
  }
}

// The inputs [0, width), [width][32], an odd width rounded up.
HWY_INLINE void decode(const char* codes, int64_t width, uint16_t* out) {
#pragma GCC unroll 4
  for (int64_t k = 0; k < width; k += 2) decode_pair(codes, k, out + k * 32);
}

// out[32] = 256 * the scales of the panel's outputs for the inputs of a piece.
void piece_scales(const Matrix& w, int64_t panel, int64_t k, float* out) {
  const int64_t cols = w.scale_col_count();
  const int64_t first = panel * kPanelRows;
  const float* scales = w.scales + k / kScaleCols;
  if (w.scale_rows >= kPanelRows) {
    std::fill_n(out, kPanelRows, 256.f * scales[first / w.scale_rows * cols]);
    return;
  }
  for (int64_t i = 0; i < kPanelRows; ++i) {
    out[i] = 256.f * scales[std::min(first + i, w.rows - 1) / w.scale_rows * cols];
  }
}

// The sums of R rows and a strip of outputs over one piece.
template <int R>
struct Sums {
  V low[R];
  V high[R];

  HWY_INLINE Sums() {
    for (int r = 0; r < R; ++r) {
      low[r] = hn::Zero(D());
      high[r] = hn::Zero(D());
    }
  }
  template <typename Panel>
  HWY_INLINE void add(const Panel& panel, int64_t at, int strip, const float* x) {
    V w_low;
    V w_high;
    panel.load(at, strip, w_low, w_high);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V value = hn::Set(D(), x[r * kInputs]);
      low[r] = hn::MulAdd(value, w_low, low[r]);
      high[r] = hn::MulAdd(value, w_high, high[r]);
    }
  }
  // c[R][32] += scales[32] * these.
  HWY_INLINE void scale_onto(int strip, const float* scales, float* c) const {
    const D d;
    const V scale_low = hn::LoadU(d, scales + strip * kLanes);
    const V scale_high = hn::LoadU(d, scales + strip * kLanes + 16);
    c += strip * kLanes;
    for (int r = 0; r < R; ++r, c += 32) {
      hn::StoreU(hn::MulAdd(low[r], scale_low, hn::LoadU(d, c)), d, c);
      hn::StoreU(hn::MulAdd(high[r], scale_high, hn::LoadU(d, c + 16)), d, c + 16);
    }
  }
};

// c[R][32] += scales * x[R][width] * panel.
template <int R, typename Panel>
HWY_NOINLINE void add_rows(
    const Panel& panel, const float* x, int64_t width, const float* scales, float* c) {
  for (int strip = 0; strip < kStrips; ++strip) {
    Sums<R> sums;
    for (int64_t k = 0; k < width; ++k) sums.add(panel, k, strip, x + k);
    sums.scale_onto(strip, scales, c);
  }
}

// The same for few rows, decoding as it goes: the sums of few rows wait for each other, and
// decoding fills that time.
template <int R>
HWY_NOINLINE void add_decoding(
    const char* codes, const float* x, int64_t width, const float* scales, float* c) {
  Sums<R> sums[kStrips];
  HWY_ALIGN uint16_t pair[2 * kPanelRows];
  const F16Panel<false> panel{reinterpret_cast<const char*>(pair)};
  for (int64_t k = 0; k < width; k += 2) {
    decode_pair(codes, k, pair);
    for (int strip = 0; strip < kStrips; ++strip) sums[strip].add(panel, 0, strip, x + k);
    if (k + 1 == width) break;
    for (int strip = 0; strip < kStrips; ++strip) sums[strip].add(panel, 1, strip, x + k + 1);
  }
  for (int strip = 0; strip < kStrips; ++strip) sums[strip].scale_onto(strip, scales, c);
}

// Rows for which add_decoding() has registers enough; more go strip by strip.
constexpr int kFewRows = kStrips == 1 ? kRows : 1;

// Choose the kernel for the number of rows.
template <int R = kRows, typename Panel>
HWY_INLINE void add_block(
    int64_t rows,
    const Panel& panel,
    const float* x,
    int64_t width,
    const float* scales,
    float* c) {
  if constexpr (R >= 1) {
    if (rows == R) return add_rows<R>(panel, x, width, scales, c);
    add_block<R - 1>(rows, panel, x, width, scales, c);
  }
}
template <int R = kFewRows>
HWY_INLINE void add_few(
    int64_t rows, const char* codes, const float* x, int64_t width, const float* scales, float* c) {
  if constexpr (R >= 1) {
    if (rows == R) return add_decoding<R>(codes, x, width, scales, c);
    add_few<R - 1>(rows, codes, x, width, scales, c);
  }
}

void multiply_fp8_streaming(const PanelWork& work) {
  const auto& [w, first, last, packed, blocks, bias, y] = work;
  HWY_ALIGN uint16_t piece[kPiece * kPanelRows];
  HWY_ALIGN float scales[kPanelRows];
  HWY_ALIGN float c[kMaxStreamedRows * kPanelRows];
  for (int64_t p = first; p < last; ++p) {
    std::fill_n(c, y.rows * kPanelRows, 0.f);
    for (int64_t k = 0; k < w.cols; k += kPiece) {
      const int64_t width = std::min(kPiece, w.cols - k);
      const char* codes = panel_at(w, p, k);
      piece_scales(w, p, k, scales);
      if (y.rows <= kFewRows) {
        const float* x = packed + k / kInputs * kInputs * y.rows + k % kInputs;
        add_few(y.rows, codes, x, width, scales, c);
        continue;
      }
      decode(codes, width, piece);
      const F16Panel<false> panel{reinterpret_cast<const char*>(piece)};
      for (int64_t b = 0; b < blocks.count(); ++b) {
        const float* x = packed + blocks.offset(b, k / kInputs * kInputs) + k % kInputs;
        add_block(blocks.size(b), panel, x, width, scales, c + blocks.first(b) * kPanelRows);
      }
    }
    store_tile(c, y.rows, 0, p, bias, y);
  }
}

void multiply_fp8_blocked(const PanelWork& work, float* scratch) {
  const auto& [w, first, last, packed, blocks, bias, y] = work;
  HWY_ALIGN uint16_t piece[kPiece * kPanelRows];
  HWY_ALIGN float scales[kPanelRows];
  float* buffer = scratch;                        // [kInputs][32], of which a piece is used
  float* tiles = scratch + kInputs * kPanelRows;  // [panel][row][32]
  for (int64_t p = first; p < last; ++p) {
    std::fill_n(tiles + (p - first) * kChunkRows * kPanelRows, y.rows * kPanelRows, 0.f);
  }
  for (int64_t k = 0; k < w.cols; k += kPiece) {
    const int64_t width = std::min(kPiece, w.cols - k);
    for (int64_t p = first; p < last; ++p) {
      decode(panel_at(w, p, k), width, piece);
      widen(F16Panel<false>{reinterpret_cast<const char*>(piece)}, width, buffer);
      piece_scales(w, p, k, scales);
      const F32Panel<false> panel{reinterpret_cast<const char*>(buffer)};
      float* c = tiles + (p - first) * kChunkRows * kPanelRows;
      for (int64_t b = 0; b < blocks.count(); ++b) {
        const float* x = packed + blocks.offset(b, k / kInputs * kInputs) + k % kInputs;
        add_block(blocks.size(b), panel, x, width, scales, c + blocks.first(b) * kPanelRows);
      }
    }
  }
  store_tiles(tiles, first, last, bias, y);
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {

HWY_EXPORT(multiply_fp8_streaming);
HWY_EXPORT(multiply_fp8_blocked);

void multiply_fp8_streaming(const PanelWork& work) {
  ENGRAM_CHECK(work.y.rows <= kMaxStreamedRows);
  HWY_DYNAMIC_DISPATCH(multiply_fp8_streaming)(work);
}

void multiply_fp8_blocked(const PanelWork& work, float* scratch) {
  HWY_DYNAMIC_DISPATCH(multiply_fp8_blocked)(work, scratch);
}

}  // namespace engram::engine::cpu
#endif

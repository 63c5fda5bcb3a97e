#include "engine/ops/cpu/linear_kernels.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/linear_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "memory/base/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = memory::HWY_NAMESPACE::FloatTag;
using DU = memory::HWY_NAMESPACE::WordTag;
using V = memory::HWY_NAMESPACE::FloatVec;
using memory::HWY_NAMESPACE::HalfWordTag;
using memory::HWY_NAMESPACE::round_to_bf16;
using memory::HWY_NAMESPACE::widen_bf16;
using memory::HWY_NAMESPACE::widen_f16;

constexpr int kLanes = memory::HWY_NAMESPACE::kFloatLanes;
// A strip is what one pass over a panel computes: two vectors of outputs, the lanes [s, s + kLanes)
// of the lower and of the upper 16.
constexpr int kStrips = 16 / kLanes;
// Two accumulators per row beside two weights and an input: 32 registers hold 12 rows, 16 hold 6.
constexpr int kRows = (HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON) ? 12 : 6;
// Panels are one forward stream. Each line is asked for twice: early into the second cache, past
// the page where the hardware stops looking ahead, then into the first. Measured best of 0.5 to
// 16 KiB on one core of Emerald Rapids, 1 to 8 rows: 0.96 to 0.75 of a plain read loop, against
// 0.71 to 0.45 without.
constexpr int64_t kFarBytes = 8192;
constexpr int64_t kNearBytes = 2048;

struct Bf16Panel {
  static constexpr int64_t kBytes = 2;
  static constexpr bool kPrefetch = true;
  const char* data;
  HWY_INLINE void load(int64_t k, int strip, V& low, V& high) const {
    const DU du;
    const hn::Vec<DU> words =
        hn::LoadU(du, reinterpret_cast<const uint32_t*>(data) + k * 16 + strip * kLanes);
    low = hn::BitCast(D(), hn::ShiftLeft<16>(words));
    high = hn::BitCast(D(), hn::And(words, hn::Set(du, 0xffff0000u)));
  }
};

struct F16Panel {
  static constexpr int64_t kBytes = 2;
  static constexpr bool kPrefetch = true;
  const char* data;
  HWY_INLINE void load(int64_t k, int strip, V& low, V& high) const {
    const uint16_t* at = reinterpret_cast<const uint16_t*>(data) + k * 32 + strip * kLanes;
    low = widen_f16(at);
    high = widen_f16(at + 16);
  }
};

template <bool kFromMemory>
struct F32Panel {
  static constexpr int64_t kBytes = 4;
  static constexpr bool kPrefetch = kFromMemory;
  const char* data;
  HWY_INLINE void load(int64_t k, int strip, V& low, V& high) const {
    const float* at = reinterpret_cast<const float*>(data) + k * 32 + strip * kLanes;
    low = hn::LoadU(D(), at);
    high = hn::LoadU(D(), at + 16);
  }
};

template <int64_t kStep>
HWY_INLINE void prefetch_lines(const char* panel, int64_t k) {
  for (int64_t line = 0; line < kStep; line += 64) {
    const char* at = panel + k * kStep + line;
    __builtin_prefetch(at + kFarBytes, 0, 2);
    hwy::Prefetch(at + kNearBytes);
  }
}

// c[R][32] (+)= x[R][kInputs] * panel, over `width` inputs; `start` begins at zero.
template <int R, typename Panel>
HWY_INLINE void multiply_strip(
    const Panel& panel, int strip, const float* x, int64_t width, bool start, float* c) {
  const D d;
  V low[R];
  V high[R];
  c += strip * kLanes;
  for (int r = 0; r < R; ++r) {
    low[r] = start ? hn::Zero(d) : hn::LoadU(d, c + r * 32);
    high[r] = start ? hn::Zero(d) : hn::LoadU(d, c + r * 32 + 16);
  }
  for (int64_t k = 0; k < width; ++k) {
    V w_low;
    V w_high;
    panel.load(k, strip, w_low, w_high);
    if constexpr (Panel::kPrefetch) {
      prefetch_lines<32 * Panel::kBytes>(panel.data, k);
    } else {
      // The rows of the next block, which the other core's cache may hold.
      hwy::Prefetch(x + R * kInputs + k * R);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V value = hn::Set(d, x[r * kInputs + k]);
      low[r] = hn::MulAdd(value, w_low, low[r]);
      high[r] = hn::MulAdd(value, w_high, high[r]);
    }
  }
  for (int r = 0; r < R; ++r) {
    hn::StoreU(low[r], d, c + r * 32);
    hn::StoreU(high[r], d, c + r * 32 + 16);
  }
}

template <int R, typename Panel>
HWY_NOINLINE void multiply_rows(
    const Panel& panel, const float* x, int64_t width, bool start, float* c) {
  for (int strip = 0; strip < kStrips; ++strip) {
    multiply_strip<R>(panel, strip, x, width, start, c);
  }
}

// Chooses the kernel for the number of rows.
template <int R = kRows, typename Panel>
HWY_INLINE void multiply_block(
    int64_t rows, const Panel& panel, const float* x, int64_t width, bool start, float* c) {
  if constexpr (R >= 1) {
    if (rows == R) return multiply_rows<R>(panel, x, width, start, c);
    multiply_block<R - 1>(rows, panel, x, width, start, c);
  }
}

// y[row, n ...] = c[32] + bias.
void store_row(const float* c, const float* bias, int64_t n, int64_t count, View y, int64_t row) {
  const D d;
  HWY_ALIGN float sums[kPanelRows];
  if (bias != nullptr) {
    for (int64_t i = 0; i < count; ++i) sums[i] = c[i] + bias[n + i];
    c = sums;
  }
  if (y.dtype == DType::kF32) {
    std::memcpy(y.row<float>(row) + n, c, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  HWY_ALIGN uint16_t rounded[kPanelRows];
  for (int64_t i = 0; i < kPanelRows; i += kLanes) {
    hn::StoreU(round_to_bf16(hn::LoadU(d, c + i)), HalfWordTag(), rounded + i);
  }
  std::memcpy(y.row<uint16_t>(row) + n, rounded, static_cast<size_t>(count) * sizeof(uint16_t));
}

void store_tile(const float* c, int64_t rows, int64_t first_row, int64_t panel, View bias, View y) {
  const int64_t n = panel * kPanelRows;
  const int64_t count = std::min(kPanelRows, y.cols - n);
  for (int64_t r = 0; r < rows; ++r) {
    store_row(c + r * kPanelRows, bias.as<float>(), n, count, y, first_row + r);
  }
}

void pack_block(View x, const RowBlocks& blocks, int64_t block, float* packed) {
  const D d;
  const int64_t rows = blocks.size(block);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < blocks.padded_cols(); k += kInputs) {
      float* out = packed + blocks.offset(block, k) + r * kInputs;
      const int64_t width = std::min(kInputs, x.cols - k);
      if (x.dtype == DType::kF32) {
        std::memcpy(
            out, x.row<float>(blocks.first(block) + r) + k,
            static_cast<size_t>(width) * sizeof(float));
      } else {
        const uint16_t* in = x.row<uint16_t>(blocks.first(block) + r) + k;
        int64_t i = 0;
        for (; i + kLanes <= width; i += kLanes) {
          hn::StoreU(widen_bf16(hn::LoadU(HalfWordTag(), in + i)), d, out + i);
        }
        for (; i < width; ++i) {
          const uint32_t u = uint32_t{in[i]} << 16;
          std::memcpy(out + i, &u, sizeof(u));
        }
      }
      std::fill(out + width, out + kInputs, 0.f);
    }
  }
}

template <typename Panel>
void stream_panels(
    const Matrix& w,
    int64_t first,
    int64_t last,
    const float* packed,
    const RowBlocks& blocks,
    View bias,
    View y) {
  HWY_ALIGN float c[kRows * kPanelRows];
  for (int64_t p = first; p < last; ++p) {
    for (int64_t b = 0; b < blocks.count(); ++b) {
      const int64_t rows = blocks.size(b);
      for (int64_t k = 0; k < w.cols; k += kInputs) {
        const Panel panel{panel_at(w, p, k)};
        const float* x = packed + blocks.offset(b, k);
        multiply_block(rows, panel, x, std::min(kInputs, w.cols - k), k == 0, c);
      }
      store_tile(c, rows, blocks.first(b), p, bias, y);
    }
  }
}

void multiply_streaming(
    const Matrix& w,
    int64_t first,
    int64_t last,
    const float* packed,
    const RowBlocks& blocks,
    View bias,
    View y) {
  switch (w.dtype) {
    case DType::kBf16:
      return stream_panels<Bf16Panel>(w, first, last, packed, blocks, bias, y);
    case DType::kF16:
      return stream_panels<F16Panel>(w, first, last, packed, blocks, bias, y);
    default:
      return stream_panels<F32Panel<true>>(w, first, last, packed, blocks, bias, y);
  }
}

// out[width][32] = the panel in f32 and column order.
template <typename Panel>
void widen(const Panel& panel, int64_t width, float* out) {
  for (int64_t k = 0; k < width; ++k) {
    for (int strip = 0; strip < kStrips; ++strip) {
      V low;
      V high;
      panel.load(k, strip, low, high);
      hn::StoreU(low, D(), out + k * 32 + strip * kLanes);
      hn::StoreU(high, D(), out + k * 32 + strip * kLanes + 16);
    }
  }
}

// A block of a panel as f32: in place, or widened into `buffer`.
const float* widened(const Matrix& w, int64_t panel, int64_t k, int64_t width, float* buffer) {
  const char* data = panel_at(w, panel, k);
  switch (w.dtype) {
    case DType::kBf16:
      widen(Bf16Panel{data}, width, buffer);
      return buffer;
    case DType::kF16:
      widen(F16Panel{data}, width, buffer);
      return buffer;
    default:
      return reinterpret_cast<const float*>(data);
  }
}

void multiply_blocked(
    const Matrix& w,
    int64_t first,
    int64_t last,
    const float* packed,
    const RowBlocks& blocks,
    View bias,
    View y,
    float* scratch) {
  float* buffer = scratch;                        // [kInputs][32]
  float* tiles = scratch + kInputs * kPanelRows;  // [panel][row][32]
  for (int64_t k = 0; k < w.cols; k += kInputs) {
    const int64_t width = std::min(kInputs, w.cols - k);
    for (int64_t p = first; p < last; ++p) {
      const float* weights = widened(w, p, k, width, buffer);
      const F32Panel<false> panel{reinterpret_cast<const char*>(weights)};
      float* c = tiles + (p - first) * kChunkRows * kPanelRows;
      for (int64_t b = 0; b < blocks.count(); ++b) {
        const int64_t rows = blocks.size(b);
        const float* x = packed + blocks.offset(b, k);
        multiply_block(rows, panel, x, width, k == 0, c + blocks.first(b) * kPanelRows);
      }
    }
  }
  // Rows of y lie far apart: their lines are asked for some rows early.
  constexpr int64_t kRowsAhead = 8;
  const int64_t bytes = memory::dtype_bytes(y.dtype);
  const int64_t columns = std::min(last * kPanelRows, y.cols) - first * kPanelRows;
  for (int64_t row = 0; row < y.rows; ++row) {
    if (row + kRowsAhead < y.rows) {
      const char* next =
          y.row<char>(0) + ((row + kRowsAhead) * y.stride + first * kPanelRows) * bytes;
      for (int64_t line = 0; line < columns * bytes; line += 64) {
        __builtin_prefetch(next + line, 1, 3);
      }
    }
    for (int64_t p = first; p < last; ++p) {
      const float* c = tiles + ((p - first) * kChunkRows + row) * kPanelRows;
      store_tile(c, 1, row, p, bias, y);
    }
  }
}

int64_t block_rows() {
  return kRows;
}

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace engram::engine::cpu {

HWY_EXPORT(block_rows);
HWY_EXPORT(pack_block);
HWY_EXPORT(multiply_streaming);
HWY_EXPORT(multiply_blocked);

int64_t LinearScratch::per_worker() {
  constexpr int64_t kFloats = kInputs * kPanelRows + kGroupPanels * kChunkRows * kPanelRows;
  return kFloats * static_cast<int64_t>(sizeof(float));
}

LinearScratch linear_scratch(int64_t max_tokens, int64_t max_cols, int threads) {
  const int64_t padded = (max_cols + kInputs - 1) / kInputs * kInputs;
  LinearScratch bytes;
  bytes.packed_x = std::min(max_tokens, kChunkRows) * padded * static_cast<int64_t>(sizeof(float));
  bytes.workers = threads * LinearScratch::per_worker();
  return bytes;
}

RowBlocks::RowBlocks(int64_t rows, int64_t cols)
    : rows_(rows),
      count_((rows + block_rows() - 1) / block_rows()),
      padded_cols_((cols + kInputs - 1) / kInputs * kInputs) {}

int64_t block_rows() {
  return HWY_DYNAMIC_DISPATCH(block_rows)();
}

void pack_block(View x, const RowBlocks& blocks, int64_t block, float* packed) {
  HWY_DYNAMIC_DISPATCH(pack_block)(x, blocks, block, packed);
}

void multiply_streaming(
    const Matrix& w,
    int64_t first,
    int64_t last,
    const float* packed,
    const RowBlocks& blocks,
    View bias,
    View y) {
  HWY_DYNAMIC_DISPATCH(multiply_streaming)(w, first, last, packed, blocks, bias, y);
}

void multiply_blocked(
    const Matrix& w,
    int64_t first,
    int64_t last,
    const float* packed,
    const RowBlocks& blocks,
    View bias,
    View y,
    float* scratch) {
  HWY_DYNAMIC_DISPATCH(multiply_blocked)(w, first, last, packed, blocks, bias, y, scratch);
}

}  // namespace engram::engine::cpu
#endif

// What the kernels of linear layers share: panels that lie in memory as f16 or f32, their widening,
// and the storing of results. Included once per target, see Highway's foreach_target.h.
#if defined(ENGRAM_ENGINE_OPS_CPU_LINEAR_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_ENGINE_OPS_CPU_LINEAR_TILES_INL_H_
#undef ENGRAM_ENGINE_OPS_CPU_LINEAR_TILES_INL_H_
#else
#define ENGRAM_ENGINE_OPS_CPU_LINEAR_TILES_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "engine/ops/cpu/linear_kernels.h"
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

// What is not read from memory lies in a cache already.
template <bool kFromMemory>
struct F16Panel {
  static constexpr int64_t kBytes = 2;
  static constexpr bool kPrefetch = kFromMemory;
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

// The lines of the `kStep` bytes of input k, some way ahead.
template <int64_t kStep>
HWY_INLINE void prefetch_lines(const char* panel, int64_t k) {
  for (int64_t line = 0; line < kStep; line += 64) {
    const char* at = panel + k * kStep + line;
    __builtin_prefetch(at + kFarBytes, 0, 2);
    hwy::Prefetch(at + kNearBytes);
  }
}

// y[row, n ...] = c[32] + bias.
HWY_INLINE void store_row(
    const float* c, const float* bias, int64_t n, int64_t count, View y, int64_t row) {
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

HWY_INLINE void store_tile(
    const float* c, int64_t rows, int64_t first_row, int64_t panel, View bias, View y) {
  const int64_t n = panel * kPanelRows;
  const int64_t count = std::min(kPanelRows, y.cols - n);
  for (int64_t r = 0; r < rows; ++r) {
    store_row(c + r * kPanelRows, bias.as<float>(), n, count, y, first_row + r);
  }
}

// out[width][32] = the panel in f32 and column order.
template <typename Panel>
HWY_INLINE void widen(const Panel& panel, int64_t width, float* out) {
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

// The rows of y of the panels [first, last) from tiles[panel][kChunkRows][32].
HWY_INLINE void store_tiles(const float* tiles, int64_t first, int64_t last, View bias, View y) {
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

}  // namespace engram::engine::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

#include "engine/ops/cpu/linear_kernels.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/ops/cpu/linear_kernels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "engine/ops/cpu/linear_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::engine::cpu::HWY_NAMESPACE {

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
void stream_panels(const PanelWork& work) {
  const auto& [w, first, last, packed, blocks, bias, y] = work;
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

void multiply_streaming(const PanelWork& work) {
  switch (work.w.dtype) {
    case DType::kBf16:
      return stream_panels<Bf16Panel>(work);
    case DType::kF16:
      return stream_panels<F16Panel<true>>(work);
    default:
      return stream_panels<F32Panel<true>>(work);
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
      widen(F16Panel<true>{data}, width, buffer);
      return buffer;
    default:
      return reinterpret_cast<const float*>(data);
  }
}

void multiply_blocked(const PanelWork& work, float* scratch) {
  const auto& [w, first, last, packed, blocks, bias, y] = work;
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
  store_tiles(tiles, first, last, bias, y);
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

void multiply_streaming(const PanelWork& work) {
  HWY_DYNAMIC_DISPATCH(multiply_streaming)(work);
}

void multiply_blocked(const PanelWork& work, float* scratch) {
  HWY_DYNAMIC_DISPATCH(multiply_blocked)(work, scratch);
}

}  // namespace engram::engine::cpu
#endif

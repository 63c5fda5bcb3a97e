// One stored row to activations, for every codec. Included once per vector target, see Highway's
// foreach_target.h.
#if defined(ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#undef ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#else
#define ENGRAM_MEMORY_TABLE_ROW_KERNELS_INL_H
#endif

#include <hwy/highway.h>

#include "memory/table/geometry.h"
#include "memory/table/row_convert-inl.h"
#include "memory/table/row_fp8-inl.h"
#include "memory/table/row_groups-inl.h"

HWY_BEFORE_NAMESPACE();
namespace engram::memory::HWY_NAMESPACE {

template <RowCodec kCodec, typename T>
HWY_INLINE void decode_one(
    const TableGeometry& g,
    const E4m3Decoder& fp8,
    const uint8_t* values,
    const uint8_t* scales,
    T* to) {
  const int64_t width = g.row_width;
  if constexpr (kCodec == RowCodec::kBf16 && sizeof(T) == 2) {
    copy_row(values, 2 * width, reinterpret_cast<uint8_t*>(to));
  } else if constexpr (kCodec == RowCodec::kBf16) {
    convert_row<FromBf16>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF16) {
    convert_row<FromF16>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF32 && sizeof(T) == 4) {
    copy_row(values, 4 * width, reinterpret_cast<uint8_t*>(to));
  } else if constexpr (kCodec == RowCodec::kF32) {
    convert_row<FromF32>(values, width, Unscaled(), to);
  } else if constexpr (kCodec == RowCodec::kF8Ue8m0) {
    scale_blocks(fp8, values, scales, width, to);
  } else if constexpr (kCodec == RowCodec::kF8Tensor) {
    scale_row(fp8, values, width, g.tensor_scale, to);
  } else if constexpr (kCodec == RowCodec::kInt8) {
    scale_groups<FromInt8>(values, scales, width, g.group, to);
  } else {
    static_assert(kCodec == RowCodec::kInt4);
    scale_groups<FromInt4>(values, scales, width, g.group, to);
  }
}

}  // namespace engram::memory::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

// What the kernels that gather rows share: their arguments, where a row lies and where it goes, and
// its stored bytes as activations.
#pragma once

#include <cuda_runtime.h>

#include <cstring>

#include "memory/device/values.cuh"
#include "memory/table/distinct_rows_cuda.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_hash.cuh"

namespace engram::memory::cuda {

inline bool whole_16_bytes(int64_t bytes) {
  return bytes % 16 == 0;
}
inline bool whole_16_bytes(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}
// Whether the places of rows in the output begin at and are made of whole 16 bytes.
inline bool goes_to_whole_16_bytes(const RowGather& g) {
  const int64_t act_bytes = dtype_bytes(g.out.dtype);
  return whole_16_bytes(g.out.data) && whole_16_bytes(g.out.stride * act_bytes) &&
         whole_16_bytes(g.geometry->row_width * act_bytes);
}

struct GatherArgs {
  RowPlace place;
  RowPlace upper;
  int64_t upper_first = 0;
  const int64_t* ids = nullptr;  // null: hashed from the windows
  RowHash hash;
  const int32_t* windows = nullptr;
  const int32_t* slots = nullptr;
  const ListedRow* listed = nullptr;  // instead of ids and slots: these rows
  const int32_t* listed_count = nullptr;
  int64_t tokens = 0;
  View out;
  int64_t rows = 0;  // of the table
  int64_t columns = 0;
  int64_t width = 0;
  int64_t group = 0;  // of kInt8 and kInt4
  float tensor_scale = 1.f;
};

__device__ inline int64_t rows_to_read(const GatherArgs& a) {
  return a.listed != nullptr ? *a.listed_count : a.tokens * a.columns;
}

// The row that has the index `index` among rows_to_read().
__device__ inline ListedRow row_at(const GatherArgs& a, int64_t index) {
  if (a.listed != nullptr) return a.listed[index];
  const int64_t token = index / a.columns;
  const int64_t column = index - token * a.columns;
  const int64_t id =
      a.ids != nullptr ? a.ids[index] : hashed_row(a.hash, a.windows + token * kWindow, column);
  return {id, {a.slots[token], static_cast<int32_t>(column)}};
}

// One row: its bytes, and the element of the token's vector it begins at.
struct RowWay {
  const uint8_t* values;
  const uint8_t* scales;
  void* to;
};

// An id or a slot that does not exist stops the kernel.
template <typename T>
__device__ RowWay way_of(const GatherArgs& a, const ListedRow& wanted) {
  const int64_t id = wanted.id;
  const int32_t slot = wanted.spot.slot;
  if (id < 0 || id >= a.rows || slot < 0 || slot >= a.out.rows) __trap();
  const bool upper = id >= a.upper_first;
  const RowPlace& place = upper ? a.upper : a.place;
  const int64_t row = upper ? id - a.upper_first : id;
  return {
      .values = place.values + row * place.value_stride,
      .scales = place.scales + row * place.scale_stride,
      .to = a.out.row<T>(slot) + wanted.spot.column * a.width};
}

// Bits of the stored element, and how one is read out of stored bytes.
template <RowCodec kCodec>
constexpr int kBits = kCodec == RowCodec::kF32                                ? 32
                      : kCodec == RowCodec::kBf16 || kCodec == RowCodec::kF16 ? 16
                      : kCodec == RowCodec::kInt4                             ? 4
                                                                              : 8;

template <typename T>
__device__ T stored(const uint8_t* bytes) {
  T value;
  memcpy(&value, bytes, sizeof(T));
  return value;
}

// Element i of what begins at `bytes`, without its scale.
template <RowCodec kCodec>
__device__ float element(const uint8_t* bytes, int64_t i) {
  if constexpr (kCodec == RowCodec::kF32) {
    return stored<float>(bytes + 4 * i);
  } else if constexpr (kCodec == RowCodec::kBf16) {
    return widen(stored<Bf16>(bytes + 2 * i));
  } else if constexpr (kCodec == RowCodec::kF16) {
    return widen(stored<F16>(bytes + 2 * i));
  } else if constexpr (kCodec == RowCodec::kInt8) {
    return static_cast<float>(static_cast<int8_t>(bytes[i]));
  } else if constexpr (kCodec == RowCodec::kInt4) {
    const int nibble = bytes[i / 2] >> (4 * (i % 2)) & 15;
    return static_cast<float>((nibble ^ 8) - 8);
  } else {
    return widen_e4m3(bytes[i]);
  }
}

// The scale of element i of the row.
template <RowCodec kCodec>
__device__ float scale_of(const GatherArgs& a, const uint8_t* scales, int64_t i) {
  if constexpr (kCodec == RowCodec::kF8Ue8m0) {
    return widen_e8m0(scales[i / 32]);
  } else if constexpr (kCodec == RowCodec::kF8Tensor) {
    return a.tensor_scale;
  } else {
    static_assert(kCodec == RowCodec::kInt8 || kCodec == RowCodec::kInt4);
    return widen(stored<F16>(scales + 2 * (i / a.group)));
  }
}

// Element `first` + i of the row, element i of what begins at `values`.
template <RowCodec kCodec, typename T>
__device__ T decoded(
    const GatherArgs& a, const uint8_t* values, int64_t i, const uint8_t* scales, int64_t first) {
  constexpr bool kCopied =
      (kCodec == RowCodec::kF32 && sizeof(T) == 4) || (kCodec == RowCodec::kBf16 && sizeof(T) == 2);
  if constexpr (kCopied) {
    return stored<T>(values + i * static_cast<int64_t>(sizeof(T)));
  } else if constexpr (kBits<kCodec> <= 8) {
    return narrow<T>(element<kCodec>(values, i) * scale_of<kCodec>(a, scales, first + i));
  } else {
    return narrow<T>(element<kCodec>(values, i));
  }
}

// Elements of 16 stored bytes.
template <RowCodec kCodec>
constexpr int kElements = 128 / kBits<kCodec>;

// The 16 bytes in `bytes`, of which `first` is the first element, to to[first ...]. REQUIRES: both
// are aligned to 16 bytes.
template <RowCodec kCodec, typename T>
__device__ void put_16_bytes(
    const GatherArgs& a,
    const Pack<uint8_t, 16>& bytes,
    const uint8_t* scales,
    int64_t first,
    T* to) {
  constexpr int kFill = static_cast<int>(16 / sizeof(T));
  constexpr int kStore = kElements<kCodec> < kFill ? kElements<kCodec> : kFill;
  for (int begin = 0; begin < kElements<kCodec>; begin += kStore) {
    Pack<T, kStore> out;
    for (int i = 0; i < kStore; ++i) {
      out.v[i] = decoded<kCodec, T>(a, bytes.v, begin + i, scales, first);
    }
    store_pack<T, kStore>(out, to + first + begin);
  }
}

}  // namespace engram::memory::cuda

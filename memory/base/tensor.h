// Element types and views of two-dimensional arrays.
//
// A View never owns memory and never outlives the call it is passed to. It may point to host or
// device memory; only code of the device that owns the memory may follow its pointer.
#pragma once

#include <bit>
#include <cstdint>

#include "memory/base/status.h"

// Marks what kernels call as well.
#ifdef __CUDACC__
#define ENGRAM_HOST_DEVICE __host__ __device__
#else
#define ENGRAM_HOST_DEVICE
#endif

namespace engram::memory {

// Those from kI8 on are only found in files, in tensors that nothing here computes with.
enum class DType : uint8_t {
  kF32,
  kBf16,
  kF16,
  kF8E4m3,
  kF8E8m0,
  kI32,
  kI64,
  kU8,
  kF64,
  kI8,
  kBool,
  kF8E5m2,
  kI16,
  kU16,
  kU32,
  kU64,
};

int64_t dtype_bytes(DType dtype);
const char* dtype_name(DType dtype);  // "bf16"

// bfloat16: the upper half of a float. Rounds to nearest, ties to even; NaN stays NaN.
struct Bf16 {
  uint16_t bits = 0;

  Bf16() = default;
  explicit Bf16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t{bits} << 16); }
};

// IEEE half precision, as stored; widened by half_to_float().
struct F16 {
  uint16_t bits = 0;
};
float half_to_float(F16 value);
F16 float_to_half(float value);  // to nearest, ties to even

// float8 e4m3, as stored: bias 7, no infinities, 0x7f and 0xff are NaN.
struct E4m3 {
  uint8_t bits = 0;
};
constexpr float kLargestE4m3 = 448.f;
float e4m3_to_float(uint8_t code);
// To nearest, ties to even; what is larger than 448 saturates, NaN stays NaN.
uint8_t float_to_e4m3(float value);
// ue8m0 scale byte: 2^(code - 127); 255 is NaN.
float e8m0_to_float(uint8_t code);
// The scale byte of numbers stored as e4m3: the least power of two over which the largest magnitude
// is at most 448 = 1.75 * 2^8; 1 for zeros. `bits` are those of the magnitude, which is finite.
ENGRAM_HOST_DEVICE inline uint8_t e8m0_scale_of(uint32_t bits) {
  if (bits == 0) return 127;
  const int code = static_cast<int>(bits >> 23) - 8 + ((bits & 0x7fffffu) > 0x600000u ? 1 : 0);
  return static_cast<uint8_t>(code < 0 ? 0 : code);
}

template <typename T>
struct Type {
  using type = T;
};

// [rows, cols], row-major, `stride` elements from one row to the next.
struct View {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;
  DType dtype = DType::kF32;

  template <typename T>
  ENGRAM_HOST_DEVICE T* as() const {
    return static_cast<T*>(data);
  }
  template <typename T>
  ENGRAM_HOST_DEVICE T* row(int64_t index) const {
    return static_cast<T*>(data) + index * stride;
  }
  bool contiguous() const { return stride == cols || rows <= 1; }
  bool empty() const { return data == nullptr; }
  // The first `count` rows from `first`; the `count` columns from `first`.
  View row_range(int64_t first, int64_t count) const;
  View col_range(int64_t first, int64_t count) const;
};

inline View make_view(void* data, DType dtype, int64_t rows, int64_t cols) {
  return {data, rows, cols, cols, dtype};
}

// Calls f(Type<T>{}) with the C++ type of an activation dtype (f32 or bf16).
template <typename F>
void with_activation_type(DType dtype, F&& f) {
  if (dtype == DType::kF32) {
    f(Type<float>{});
  } else {
    ENGRAM_CHECK(dtype == DType::kBf16);
    f(Type<Bf16>{});
  }
}

}  // namespace engram::memory

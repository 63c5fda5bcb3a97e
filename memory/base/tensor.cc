#include "memory/base/tensor.h"

#include <cmath>
#include <limits>

namespace engram::memory {

int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
    case DType::kU32:
      return 4;
    case DType::kBf16:
    case DType::kF16:
    case DType::kI16:
    case DType::kU16:
      return 2;
    case DType::kF8E4m3:
    case DType::kF8E8m0:
    case DType::kF8E5m2:
    case DType::kU8:
    case DType::kI8:
    case DType::kBool:
      return 1;
    case DType::kI64:
    case DType::kU64:
    case DType::kF64:
      return 8;
  }
  ENGRAM_CHECK(false);
  return 0;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kF8E4m3:
      return "f8_e4m3";
    case DType::kF8E8m0:
      return "f8_e8m0";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU8:
      return "u8";
    case DType::kF64:
      return "f64";
    case DType::kI8:
      return "i8";
    case DType::kBool:
      return "bool";
    case DType::kF8E5m2:
      return "f8_e5m2";
    case DType::kI16:
      return "i16";
    case DType::kU16:
      return "u16";
    case DType::kU32:
      return "u32";
    case DType::kU64:
      return "u64";
  }
  return "?";
}

float half_to_float(F16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t exponent = (value.bits >> 10) & 31u;
  const uint32_t mantissa = value.bits & 1023u;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

F16 float_to_half(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 65520.f) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x1p-14f) {
    const float units = std::nearbyint(std::ldexp(magnitude, 24));
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(units))};
  }
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = m + 0xfffu + ((m >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - (112u << 23)) >> 13))};
}

float e4m3_to_float(uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  float magnitude = 0.f;
  if ((code & 0x7f) == 0x7f) {
    magnitude = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    magnitude = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  }
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

uint8_t float_to_e4m3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7f;
  const float magnitude = std::fmin(std::fabs(value), kLargestE4m3);
  // Numbers below 2^-6 are multiples of 2^-9, the others of their exponent's eighth.
  const int exponent = magnitude < 0x1p-6f ? -6 : std::ilogb(magnitude);
  const int units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // 16 units are the next exponent's first; below 8 it is exponent -6 without the leading one.
  return static_cast<uint8_t>(sign | ((exponent + 6) * 8 + units));
}

float e8m0_to_float(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.f, int{code} - 127);
}

View View::row_range(int64_t first, int64_t count) const {
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(count >= 0);
  ENGRAM_CHECK(first + count <= rows);
  View v = *this;
  v.data = static_cast<char*>(data) + first * stride * dtype_bytes(dtype);
  v.rows = count;
  return v;
}

View View::col_range(int64_t first, int64_t count) const {
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(count >= 0);
  ENGRAM_CHECK(first + count <= cols);
  View v = *this;
  v.data = static_cast<char*>(data) + first * dtype_bytes(dtype);
  v.cols = count;
  return v;
}

}  // namespace engram::memory

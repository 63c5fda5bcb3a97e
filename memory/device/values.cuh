// Numbers as kernels read and write them: one at a time, or so many that one access moves them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "memory/base/tensor.h"

namespace engram::memory::cuda {

__device__ inline float widen(float value) {
  return value;
}
__device__ inline float widen(Bf16 value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
// The exponent is moved by a multiplication, which also makes subnormal halves normal.
__device__ inline float widen(F16 value) {
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  if (magnitude >= 0x0f800000u) return __uint_as_float(sign | 0x70000000u | magnitude);
  return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude) * 0x1p112f));
}

// Stored codes of tables; a NaN code gives NaN.
__device__ inline float widen_e4m3(uint8_t code) {
  const uint32_t magnitude = static_cast<uint32_t>(code & 0x7fu);
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  if (magnitude == 0x7fu) return __uint_as_float(sign | 0x7fc00000u);
  return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 20) * 0x1p120f));
}
__device__ inline float widen(E4m3 value) {
  return widen_e4m3(value.bits);
}
__device__ inline float widen_e8m0(uint8_t code) {
  const uint32_t bits = code == 0     ? 0x00400000u
                        : code == 255 ? 0x7fc00000u
                                      : static_cast<uint32_t>(code) << 23;
  return __uint_as_float(bits);
}

// To nearest, ties to even; NaN stays NaN.
template <typename T>
__device__ T narrow(float value);
template <>
__device__ inline float narrow<float>(float value) {
  return value;
}
template <>
__device__ inline Bf16 narrow<Bf16>(float value) {
  const uint32_t u = __float_as_uint(value);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  Bf16 result;
  result.bits =
      static_cast<uint16_t>((nan ? u | 0x00400000u : u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  return result;
}

// As memory::float_to_e4m3(): saturates at 448. A normal number rounds in its bit pattern; a
// subnormal one, a multiple of 2^-9, in the last place of a sum with 2^14. Both meet at 2^-6.
template <>
__device__ inline E4m3 narrow<E4m3>(float value) {
  const float magnitude = fminf(fabsf(value), kLargestE4m3);
  const uint32_t u = __float_as_uint(magnitude);
  uint32_t code = (u + (0x7ffffu - (120u << 23)) + ((u >> 20) & 1u)) >> 20;
  if (magnitude < 0x1p-6f) code = __float_as_uint(magnitude + 0x1p14f) - 0x46800000u;
  if (value != value) code = 0x7fu;
  E4m3 result;
  result.bits = static_cast<uint8_t>(code | ((__float_as_uint(value) >> 24) & 0x80u));
  return result;
}

// N neighbours, read and written by one access: N * sizeof(T) is 1, 2, 4, 8 or 16.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

template <typename T, int N>
__device__ Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <typename T, int N>
__device__ void store_pack(const Pack<T, N>& pack, T* to) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

}  // namespace engram::memory::cuda

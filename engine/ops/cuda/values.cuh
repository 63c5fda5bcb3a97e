// Numbers as kernels read and write them: one at a time, or so many that one access moves them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "memory/base/tensor.h"

namespace engram::engine::cuda {

using memory::Bf16;
using memory::F16;
using memory::View;

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

// Calls f(Type<T>{}) with the C++ type of a weight dtype.
template <typename F>
void with_weight_type(memory::DType dtype, F&& f) {
  if (dtype == memory::DType::kBf16) return f(memory::Type<Bf16>{});
  if (dtype == memory::DType::kF16) return f(memory::Type<F16>{});
  ENGRAM_CHECK(dtype == memory::DType::kF32);
  f(memory::Type<float>{});
}

}  // namespace engram::engine::cuda

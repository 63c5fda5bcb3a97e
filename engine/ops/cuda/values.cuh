// Numbers as the kernels of the ops read and write them.
#pragma once

#include "memory/base/tensor.h"
#include "memory/device/values.cuh"

namespace engram::engine::cuda {

using memory::Bf16;
using memory::E4m3;
using memory::F16;
using memory::View;

using memory::cuda::load_pack;
using memory::cuda::narrow;
using memory::cuda::Pack;
using memory::cuda::store_pack;
using memory::cuda::widen;
using memory::cuda::widen_e8m0;

// Four codes of f8_e4m3 weights, none of them NaN, the first in the lowest byte. The exponents are
// moved by a multiplication, which also makes subnormal codes normal.
__device__ inline Pack<float, 4> widen_codes(uint32_t codes) {
  Pack<float, 4> values;
  for (int i = 0; i < 4; ++i) {
    const uint32_t top = codes << (24 - 8 * i);
    const uint32_t bits = (top & 0x80000000u) | ((top >> 4) & 0x07f00000u);
    values.v[i] = __uint_as_float(bits) * 0x1p120f;
  }
  return values;
}

// Calls f(Type<T>{}) with the C++ type of a weight dtype; f8_e4m3 is not among them.
template <typename F>
void with_weight_type(memory::DType dtype, F&& f) {
  if (dtype == memory::DType::kBf16) return f(memory::Type<Bf16>{});
  if (dtype == memory::DType::kF16) return f(memory::Type<F16>{});
  ENGRAM_CHECK(dtype == memory::DType::kF32);
  f(memory::Type<float>{});
}

// Calls f(Type<T>{}, Type<C>{}) with the C++ types of activations and of the cache under them.
template <typename F>
void with_cache_types(memory::DType act, memory::DType cache, F&& f) {
  memory::with_activation_type(act, [&]<typename T>(memory::Type<T> t) {
    if (cache == memory::DType::kF8E4m3) {
      f(t, memory::Type<E4m3>{});
    } else if (cache == act) {
      f(t, t);
    } else if constexpr (sizeof(T) == sizeof(float)) {
      ENGRAM_CHECK(cache == memory::DType::kBf16);
      f(t, memory::Type<Bf16>{});
    } else {
      ENGRAM_CHECK(false);
    }
  });
}

}  // namespace engram::engine::cuda

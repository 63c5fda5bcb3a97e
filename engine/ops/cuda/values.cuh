// Numbers as the kernels of the ops read and write them.
#pragma once

#include "memory/base/tensor.h"
#include "memory/device/values.cuh"

namespace engram::engine::cuda {

using memory::Bf16;
using memory::F16;
using memory::View;

using memory::cuda::load_pack;
using memory::cuda::narrow;
using memory::cuda::Pack;
using memory::cuda::store_pack;
using memory::cuda::widen;

// Calls f(Type<T>{}) with the C++ type of a weight dtype.
template <typename F>
void with_weight_type(memory::DType dtype, F&& f) {
  if (dtype == memory::DType::kBf16) return f(memory::Type<Bf16>{});
  if (dtype == memory::DType::kF16) return f(memory::Type<F16>{});
  ENGRAM_CHECK(dtype == memory::DType::kF32);
  f(memory::Type<float>{});
}

}  // namespace engram::engine::cuda

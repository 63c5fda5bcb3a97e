// Loads of weights under emulation; see the header of this name in engine/ops/cuda.
#pragma once

#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {

inline Pack<uint32_t, 4> load_once(const void* from) {
  return load_pack<uint32_t, 4>(static_cast<const uint32_t*>(from));
}

// Whoever prefetches beyond the weights reads beyond them.
inline void prefetch_weights(const void* from) {
  const volatile uint8_t* line = static_cast<const uint8_t*>(from);
  static_cast<void>(*line);
}

}  // namespace engram::engine::cuda

// Loads of weights under emulation; see the header of this name in engine/ops/cuda.
#pragma once

#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {

inline Pack<uint32_t, 4> load_once(const void* from) {
  return load_pack<uint32_t, 4>(static_cast<const uint32_t*>(from));
}

}  // namespace engram::engine::cuda

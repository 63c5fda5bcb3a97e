// Loads of weights: read once in a step, so that what is read often keeps its place in L1. The
// emulation of the tests has a header of this name.
#pragma once

#include <cstdint>

#include "engine/ops/cuda/values.cuh"

namespace engram::engine::cuda {

// The 16 bytes at `from`, a multiple of 16, which no running kernel writes.
__device__ inline Pack<uint32_t, 4> load_once(const void* from) {
  Pack<uint32_t, 4> words;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.v[0]), "=r"(words.v[1]), "=r"(words.v[2]), "=r"(words.v[3])
               : "l"(from));
  return words;
}

// Brings the line that `from` is in to L2. Changes no value, so that it may come at any time.
__device__ inline void prefetch_weights(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

}  // namespace engram::engine::cuda

// The clock of a GPU. The emulation of the tests has a header of this name.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace engram::memory::cuda {

// Nanoseconds, the same on all multiprocessors; how finely they are counted is the GPU's matter.
__device__ inline int64_t global_timer_ns() {
  int64_t ns = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns)::"memory");
  return ns;
}

}  // namespace engram::memory::cuda

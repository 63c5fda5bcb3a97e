// Copies from global to shared memory that run beside the thread that started them (cp.async,
// compute capability 8.0). The emulation of the tests has a header of this name, in which nothing
// arrives before somebody waits for it.
#pragma once

#include <cuda_runtime.h>

namespace engram::memory::cuda {

// Starts a copy of 16 bytes; with `there` false, 16 zeros are written and `from` is not read. Both
// addresses are multiples of 16.
__device__ inline void copy_16_async(void* to_shared, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to_shared))),
               "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
               : "memory");
}

// Makes a group of the copies this thread started since the last call.
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until at most kPending groups of this thread, the youngest, are on their way. The copies of other
// threads: after a barrier. REQUIRES: a kernel ends with none on its way.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace engram::memory::cuda

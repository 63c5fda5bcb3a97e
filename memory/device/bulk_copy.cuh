// Bulk copies from global to shared memory (compute capability 9.0): one thread starts a copy of
// any number of bytes, and a barrier in shared memory counts what has arrived. Global memory may be
// pinned memory of the host. The emulation of the tests has a header of this name, in which nothing
// arrives before somebody waits for it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace engram::memory::cuda {

// In shared memory. It goes through phases: one is over when every arrival of the phase was made
// and all bytes that were expected are there; then the next one begins.
struct alignas(8) CopyBarrier {
  uint64_t state;
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

__device__ inline unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Makes a barrier whose phases take so many arrivals. One thread; the others, after a barrier of
// theirs.
__device__ inline void init_barrier(CopyBarrier* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals)
               : "memory");
  // The copies' hardware sees it, too.
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Arrives, and lets the phase last until `bytes` more were copied.
__device__ inline void arrive_expecting(CopyBarrier* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

// Starts a copy that is counted by the barrier's present phase. Addresses and bytes are multiples
// of 16. REQUIRES: the block waits for it.
__device__ inline void bulk_copy(
    void* to_shared, const void* from, unsigned bytes, CopyBarrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to_shared)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

// Until phase number `phase`, counted from 0, is over; what was copied in it may then be read.
// REQUIRES: no later phase than the one after it has begun.
__device__ inline void wait_for_phase(CopyBarrier* barrier, unsigned phase) {
  unsigned over = 0;
  do {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n"
        "}"
        : "=r"(over)
        : "r"(shared_address(barrier)), "r"(phase & 1u)
        : "memory");
  } while (over == 0);
}

#else

// Code for parts without bulk copies: compiled, never run.
__device__ inline void init_barrier(CopyBarrier*, unsigned) {
  __trap();
}
__device__ inline void arrive_expecting(CopyBarrier*, unsigned) {
  __trap();
}
__device__ inline void bulk_copy(void*, const void*, unsigned, CopyBarrier*) {
  __trap();
}
__device__ inline void wait_for_phase(CopyBarrier*, unsigned) {
  __trap();
}

#endif

}  // namespace engram::memory::cuda

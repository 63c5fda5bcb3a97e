// Kernels that are started while the one before them in their stream still runs (programmatic
// dependent launch). The emulation of the tests has a header of this name.
#pragma once

#include <cuda_runtime.h>

namespace engram::engine::cuda {

// Lets the next kernel of the stream be started as well, and waits until the one before has ended
// and what it wrote can be read. Every thread of every kernel that launch() starts calls it, before
// it reads or writes anything but weights, which nobody writes. So each kernel ends after all those
// before it.
__device__ inline void wait_for_turn() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace engram::engine::cuda

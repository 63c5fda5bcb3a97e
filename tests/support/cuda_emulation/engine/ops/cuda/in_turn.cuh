// Kernels of the emulation are started in their turn; what is watched is that each thread of those
// that need not be waits for it.
#pragma once

#include "tests/support/cuda_emulation/grid.h"

namespace engram::engine::cuda {

inline void wait_for_turn() {
  cuda_emulation::wait_for_predecessor();
}

}  // namespace engram::engine::cuda

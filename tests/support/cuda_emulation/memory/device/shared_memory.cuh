// Shared memory of a block under emulation; see the header of this name in memory/device.
#pragma once

#include <algorithm>
#include <cstddef>

#include "tests/support/cuda_emulation/grid.h"

namespace engram::memory::cuda {

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(cuda_emulation::dynamic_shared());
}

template <typename T, typename Name>
T& shared() {
  static const char key = 0;
  return *static_cast<T*>(
      cuda_emulation::static_shared(&key, sizeof(T), std::max(alignof(T), std::size_t{16})));
}

}  // namespace engram::memory::cuda

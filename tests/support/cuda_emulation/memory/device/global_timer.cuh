// The clock of an emulated GPU: that of the host; see the header of this name in memory/device.
#pragma once

#include <chrono>
#include <cstdint>

namespace engram::memory::cuda {

inline int64_t global_timer_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace engram::memory::cuda

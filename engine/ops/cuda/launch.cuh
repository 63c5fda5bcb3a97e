// The one place that starts a kernel.
#pragma once

#include <cstdint>
#include <source_location>
#include <utility>

#include "engine/ops/cuda/in_turn.cuh"
#include "memory/device/cuda_handle.h"

namespace engram::engine::cuda {

struct LaunchConfig {
  dim3 blocks;
  int threads = 0;           // of a block
  int64_t shared_bytes = 0;  // dynamic shared memory of a block
  cudaStream_t stream = nullptr;
  std::source_location at = std::source_location::current();  // for the message of a failure
};

// The rows of a grid for so many rows of data: kernels go round while there are more.
inline unsigned grid_rows(int64_t rows) {
  constexpr int64_t kMaxGridRows = 65535;
  return static_cast<unsigned>(rows < kMaxGridRows ? rows : kMaxGridRows);
}

// Ends a kernel that found a bug of its caller; the device has failed then.
__device__ inline void stop_kernel() {
  __trap();
}

// Whether kernels are started early, see in_turn.cuh; one setting for the process. REQUIRES for
// true: code compiled for compute capability 9.0 or later runs, as only that waits for its turn.
inline bool& started_early() {
  static bool early = false;
  return early;
}

// Enqueues kernel(arguments...), each converted to the kernel's parameter. A grid that
// cannot be is a bug and ends the process, with the kernel, the place of the call and the shape.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchConfig& c, Arguments&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = c.blocks;
  config.blockDim = dim3(static_cast<unsigned>(c.threads));
  config.dynamicSmemBytes = static_cast<size_t>(c.shared_bytes);
  config.stream = c.stream;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = started_early() ? 1 : 0;
  memory::enqueue_kernel({config, c.at}, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace engram::engine::cuda

// How long streams of a GPU stand still for events: a kernel of one thread before each wait and one
// behind it read the GPU's clock. They work in recordings too. Each pair costs the stream some
// microseconds, so that it is made only where somebody asked for it.
//
// Thread-safe, but for one counter, which belongs to the waits of one stream.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "memory/base/status.h"
#include "memory/device/cuda_handle.h"

namespace engram::memory {

struct WaitStamp;  // of one counter, in device memory

class WaitStamps {
 public:
  // Measures on a stream of its own what lies between two kernels that wait for nothing; waits are
  // what lies beyond. RESOURCE_EXHAUSTED without device memory.
  static Result<std::unique_ptr<WaitStamps>> make();
  ~WaitStamps();

  // Around a wait that adds to *waited_ns, which is in memory the GPU writes.
  void before(cudaStream_t stream, std::atomic<int64_t>* waited_ns);
  void after(cudaStream_t stream, std::atomic<int64_t>* waited_ns);

  int64_t idle_ns() const { return idle_ns_; }

 private:
  static constexpr size_t kStamps = 256;

  WaitStamps() = default;
  WaitStamp* stamp_of(const std::atomic<int64_t>* waited_ns);
  Status clear();
  Status measure_idle();

  WaitStamp* stamps_ = nullptr;
  int64_t idle_ns_ = 0;
  std::mutex mu_;
  std::map<const std::atomic<int64_t>*, size_t> place_by_counter_;
};

}  // namespace engram::memory

// How long streams of a GPU take for what was enqueued, or stand still for events: a kernel of one
// thread before and one behind read the GPU's clock. They work in recordings too. Each pair costs
// the stream some microseconds, so that it is made only where somebody asked for it.
//
// Thread-safe, but for one counter, which belongs to the spans of one stream.
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

struct StreamStamp;  // of one counter, in device memory

class StreamStamps {
 public:
  // Measures on a stream of its own what lies between two kernels with nothing between; spans are
  // what lies beyond. RESOURCE_EXHAUSTED without device memory.
  static Result<std::unique_ptr<StreamStamps>> make();
  ~StreamStamps();

  // Around what adds its time to *ns, which is in memory the GPU writes.
  void begin(cudaStream_t stream, std::atomic<int64_t>* ns);
  void end(cudaStream_t stream, std::atomic<int64_t>* ns);

  int64_t idle_ns() const { return idle_ns_; }

 private:
  static constexpr size_t kStamps = 256;

  StreamStamps() = default;
  StreamStamp* stamp_of(const std::atomic<int64_t>* ns);
  Status clear();
  Status measure_idle();

  StreamStamp* stamps_ = nullptr;
  int64_t idle_ns_ = 0;
  std::mutex mu_;
  std::map<const std::atomic<int64_t>*, size_t> place_by_counter_;
};

}  // namespace engram::memory

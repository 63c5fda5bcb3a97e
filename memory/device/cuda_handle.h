// Owners of CUDA handles, and the one check of CUDA errors. Included by .cu files only; other code
// holds memory::Stream and memory::Event.
#pragma once

#include <cuda_runtime.h>

#include <source_location>
#include <utility>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// A CUDA error is sticky and cannot be repaired in-process, so it ends the process.
inline void cuda_ok(cudaError_t error, std::source_location at = std::source_location::current()) {
  if (error != cudaSuccess) die(cudaGetErrorString(error), at);
}

// Move-only owner of one handle.
template <typename Handle, cudaError_t (*Destroy)(Handle)>
class Owned {
 public:
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != Handle{}) cuda_ok(Destroy(handle_));
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_;
};

using CudaStream = Owned<cudaStream_t, cudaStreamDestroy>;
using CudaEvent = Owned<cudaEvent_t, cudaEventDestroy>;
using CudaGraph = Owned<cudaGraph_t, cudaGraphDestroy>;
using CudaGraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

// The CUDA stream behind a Stream of a CUDA device.
cudaStream_t native_stream(Stream& stream);

}  // namespace engram::memory

// Owners of CUDA handles. Included by .cu files only; other code holds memory::Stream and
// memory::Event.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "memory/device/cuda_failure.h"
#include "memory/device/device.h"

namespace engram::memory {

// Move-only owner of one handle, or of none: those of a GPU that failed.
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

// What becomes of CUDA errors, and the one way to enqueue a kernel. Included by .cu files only.
//
// A GPU that fails while it is used (an address that does not exist, an ECC error, a GPU that is
// gone) cannot be repaired in-process: each later call answers the same. The first such error is
// kept, and from then on the GPU is not called any more: nothing is enqueued, nobody waits. A
// process uses one GPU, hence there is one failure. Errors that only a wrong call can have are bugs
// and end the process. Any thread.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <source_location>
#include <string>
#include <utility>

#include "memory/base/status.h"

namespace engram::memory {

bool cuda_failed();
// ok, or the failure: UNAVAILABLE with the error, the place that met it, and the kernel that the
// thread there launched last, with its grid: what was at fault may lie before that, unless the
// driver was told to wait for each kernel (CUDA_LAUNCH_BLOCKING=1).
Status cuda_failure();
// For a driver that is asked anew.
void forget_cuda_failure();

// The GPU has failed, if it had not before. Host work that is being run ends first.
void fail_cuda(const std::string& what, std::source_location at);
// The same, or the end of the process, for what no success is.
void report_cuda_error(cudaError_t error, std::source_location at);

// Whether the call was made; see above for what else becomes of it.
inline bool cuda_ok(cudaError_t error, std::source_location at = std::source_location::current()) {
  if (error == cudaSuccess) return true;
  report_cuda_error(error, at);
  return false;
}

// Runs work that a stream enqueued for the host; not after a failure.
void run_host_work(const std::function<void()>& work);

// What the calling thread is about to launch, for the message of a failure.
void note_launch(const void* kernel, const cudaLaunchConfig_t& config, std::source_location at);
void note_graph_launch(std::source_location at = std::source_location::current());

// How a kernel is launched, and from where.
struct KernelLaunch {
  KernelLaunch(  // NOLINT: implicit, so that `at` is the place of the call
      const cudaLaunchConfig_t& c,
      std::source_location place = std::source_location::current())
      : config(c), at(place) {}
  const cudaLaunchConfig_t& config;
  std::source_location at;
};

// Enqueues kernel(arguments...), each converted to the kernel's parameter.
template <typename... Parameters, typename... Arguments>
void enqueue_kernel(
    const KernelLaunch& launch, void (*kernel)(Parameters...), Arguments&&... arguments) {
  if (cuda_failed()) return;
  note_launch(reinterpret_cast<const void*>(kernel), launch.config, launch.at);
  cuda_ok(
      cudaLaunchKernelEx(
          &launch.config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...),
      launch.at);
}

}  // namespace engram::memory

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "memory/device/global_timer.cuh"
#include "memory/device/stream_stamps.cuh"

namespace engram::memory {

// A stream passes one span after the other.
struct StreamStamp {
  int64_t begun_ns;
  int64_t total_ns;
};

namespace {

__global__ void note_begin(StreamStamp* stamp) {
  stamp->begun_ns = cuda::global_timer_ns();
}

// The host's counter is only written: to read it would take a way over the link and back.
__global__ void note_end(StreamStamp* stamp, int64_t idle_ns, int64_t* host_ns) {
  const int64_t span = cuda::global_timer_ns() - stamp->begun_ns - idle_ns;
  if (span > 0) stamp->total_ns += span;
  *host_ns = stamp->total_ns;
}

cudaLaunchConfig_t one_thread(cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(1);
  config.stream = stream;
  return config;
}

void enqueue_begin(cudaStream_t stream, StreamStamp* stamp) {
  enqueue_kernel(one_thread(stream), note_begin, stamp);
}

void enqueue_end(cudaStream_t stream, StreamStamp* stamp, int64_t idle_ns, int64_t* host_ns) {
  enqueue_kernel(one_thread(stream), note_end, stamp, idle_ns, host_ns);
}

}  // namespace

Result<std::unique_ptr<StreamStamps>> StreamStamps::make() {
  std::unique_ptr<StreamStamps> made(new StreamStamps());
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, kStamps * sizeof(StreamStamp));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: clear it
    return resource_exhausted(
        "times of streams: " + std::to_string(kStamps * sizeof(StreamStamp)) +
        " bytes of device memory");
  }
  if (!cuda_ok(error)) return cuda_failure();
  made->stamps_ = static_cast<StreamStamp*>(memory);
  ENGRAM_RETURN_IF_ERROR(made->clear());
  ENGRAM_RETURN_IF_ERROR(made->measure_idle());
  ENGRAM_RETURN_IF_ERROR(made->clear());
  return Result<std::unique_ptr<StreamStamps>>(std::move(made));
}

StreamStamps::~StreamStamps() {
  if (stamps_ != nullptr) cuda_ok(cudaFree(stamps_));
}

Status StreamStamps::clear() {
  // Of memory on the device cudaMemset() only begins, and no stream here waits for the default one.
  const bool cleared = cuda_ok(cudaMemset(stamps_, 0, kStamps * sizeof(StreamStamp))) &&
                       cuda_ok(cudaStreamSynchronize(nullptr));
  return cleared ? Status() : cuda_failure();
}

// The least of many pairs in a graph, where no launch by the host lies between two kernels.
Status StreamStamps::measure_idle() {
  cudaStream_t made = nullptr;
  if (!cuda_ok(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking))) return cuda_failure();
  const CudaStream stream(made);
  if (!cuda_ok(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal))) {
    return cuda_failure();
  }
  for (size_t i = 0; i + 1 < kStamps; ++i) {
    enqueue_begin(stream.get(), stamps_ + i);
    // The last stamp takes what would go to the host.
    enqueue_end(stream.get(), stamps_ + i, 0, &stamps_[kStamps - 1].total_ns);
  }
  cudaGraph_t captured = nullptr;
  if (!cuda_ok(cudaStreamEndCapture(stream.get(), &captured))) return cuda_failure();
  const CudaGraph graph(captured);
  cudaGraphExec_t instance = nullptr;
  if (!cuda_ok(cudaGraphInstantiate(&instance, graph.get(), 0))) return cuda_failure();
  const CudaGraphExec exec(instance);
  std::vector<StreamStamp> stamps(kStamps);
  const bool measured = cuda_ok(cudaGraphLaunch(exec.get(), stream.get())) &&
                        cuda_ok(cudaMemcpyAsync(
                            stamps.data(), stamps_, kStamps * sizeof(StreamStamp),
                            cudaMemcpyDefault, stream.get())) &&
                        cuda_ok(cudaStreamSynchronize(stream.get()));
  if (!measured) return cuda_failure();
  idle_ns_ = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i + 1 < kStamps; ++i) idle_ns_ = std::min(idle_ns_, stamps[i].total_ns);
  return {};
}

StreamStamp* StreamStamps::stamp_of(const std::atomic<int64_t>* ns) {
  const std::lock_guard lock(mu_);
  const size_t place = place_by_counter_.try_emplace(ns, place_by_counter_.size()).first->second;
  ENGRAM_CHECK(place < kStamps);
  return stamps_ + place;
}

void StreamStamps::begin(cudaStream_t stream, std::atomic<int64_t>* ns) {
  enqueue_begin(stream, stamp_of(ns));
}

void StreamStamps::end(cudaStream_t stream, std::atomic<int64_t>* ns) {
  static_assert(sizeof(*ns) == sizeof(int64_t) && std::atomic<int64_t>::is_always_lock_free);
  enqueue_end(stream, stamp_of(ns), idle_ns_, reinterpret_cast<int64_t*>(ns));
}

}  // namespace engram::memory

#include <functional>

#include "engine/ops/cuda/launch.cuh"
#include "memory/device/cuda_handle.h"
#include "tests/bench/gpu/graphs.h"

namespace engram::bench::gpu {

// The emulation of the tests has no graphs.
#ifdef __CUDACC__
namespace {

using memory::cuda_ok;
using memory::CudaEvent;
using memory::CudaStream;

__global__ void tiny_kernel(int* counter) {
  if (threadIdx.x == 0) *counter += 1;
}

CudaStream make_stream() {
  cudaStream_t stream = nullptr;
  cuda_ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return CudaStream(stream);
}
CudaEvent make_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  cuda_ok(cudaEventCreateWithFlags(&event, flags));
  return CudaEvent(event);
}

class GraphBench {
 public:
  GraphBench(int kernels, int replays) : kernels_(kernels), replays_(replays) {
    cuda_ok(cudaMalloc(&counters_, 2 * sizeof(int)));
    cuda_ok(cudaMemset(counters_, 0, 2 * sizeof(int)));
  }
  ~GraphBench() { cuda_ok(cudaFree(counters_)); }

  void enqueue(bool forked) {
    if (forked) {
      cuda_ok(cudaEventRecord(fork_.get(), main_.get()));
      cuda_ok(cudaStreamWaitEvent(side_.get(), fork_.get()));
      start(side_.get(), 1);
      cuda_ok(cudaEventRecord(join_.get(), side_.get()));
    }
    for (int i = 0; i < kernels_; ++i) {
      if (forked && i == kernels_ - 1) cuda_ok(cudaStreamWaitEvent(main_.get(), join_.get()));
      start(main_.get(), 0);
    }
  }

  double replay_us(bool forked) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cuda_ok(cudaStreamBeginCapture(main_.get(), cudaStreamCaptureModeThreadLocal));
    enqueue(forked);
    cuda_ok(cudaStreamEndCapture(main_.get(), &graph));
    cuda_ok(cudaGraphInstantiate(&exec, graph, 0));
    const double us = time([&] { cuda_ok(cudaGraphLaunch(exec, main_.get())); });
    cuda_ok(cudaGraphExecDestroy(exec));
    cuda_ok(cudaGraphDestroy(graph));
    return us;
  }

  double time(const std::function<void()>& once) {
    for (int i = 0; i < 10; ++i) once();  // warms up
    cuda_ok(cudaEventRecord(begin_.get(), main_.get()));
    for (int i = 0; i < replays_; ++i) once();
    cuda_ok(cudaEventRecord(end_.get(), main_.get()));
    cuda_ok(cudaEventSynchronize(end_.get()));
    float ms = 0.f;
    cuda_ok(cudaEventElapsedTime(&ms, begin_.get(), end_.get()));
    return 1e3 * static_cast<double>(ms) / replays_;
  }

 private:
  void start(cudaStream_t stream, int which) {
    engine::cuda::launch(
        tiny_kernel, {.blocks = dim3(1), .threads = 32, .stream = stream}, counters_ + which);
  }

  const int kernels_;
  const int replays_;
  int* counters_ = nullptr;
  CudaStream main_ = make_stream();
  CudaStream side_ = make_stream();
  CudaEvent fork_ = make_event(cudaEventDisableTiming);
  CudaEvent join_ = make_event(cudaEventDisableTiming);
  CudaEvent begin_ = make_event(cudaEventDefault);
  CudaEvent end_ = make_event(cudaEventDefault);
};

}  // namespace

GraphCosts measure_graphs(int kernels, int replays) {
  GraphBench bench(kernels, replays);
  GraphCosts costs;
  costs.available = true;
  costs.launches_us = bench.time([&] { bench.enqueue(false); });
  costs.plain_us = bench.replay_us(false);
  costs.forked_us = bench.replay_us(true);
  return costs;
}
#else
GraphCosts measure_graphs(int, int) {
  return {};
}
#endif

}  // namespace engram::bench::gpu

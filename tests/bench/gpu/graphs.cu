#include <cstdint>
#include <functional>
#include <utility>

#include "engine/ops/cuda/launch.cuh"
#include "memory/device/cuda_handle.h"
#include "tests/bench/gpu/graphs.h"

namespace engram::bench::gpu {
namespace {

using memory::cuda_ok;
using memory::CudaEvent;
using memory::CudaStream;

__global__ void tiny_kernel(int* counter) {
  engine::cuda::wait_for_turn();
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
    void* counters = nullptr;
    cuda_ok(cudaMalloc(&counters, 2 * sizeof(int)));
    cuda_ok(cudaMemset(counters, 0, 2 * sizeof(int)));
    counters_ = static_cast<int*>(counters);
  }
  ~GraphBench() { cuda_ok(cudaFree(counters_)); }

  // What the last kernel waits for: nothing, a branch of the graph, or work that is no part of it.
  enum class Wait : uint8_t { kNone, kBranch, kOutside };

  void enqueue(Wait wait) {
    if (wait == Wait::kBranch) {
      cuda_ok(cudaEventRecord(fork_.get(), main_.get()));
      cuda_ok(cudaStreamWaitEvent(side_.get(), fork_.get()));
      start_beside();
    }
    for (int i = 0; i < kernels_; ++i) {
      if (wait != Wait::kNone && i == kernels_ - 1) {
        cuda_ok(cudaStreamWaitEvent(
            main_.get(), join_.get(),
            wait == Wait::kOutside ? cudaEventWaitExternal : cudaEventWaitDefault));
      }
      start(main_.get(), 0);
    }
  }

  double replay_us(Wait wait) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cuda_ok(cudaStreamBeginCapture(main_.get(), cudaStreamCaptureModeThreadLocal));
    enqueue(wait);
    cuda_ok(cudaStreamEndCapture(main_.get(), &graph));
    cuda_ok(cudaGraphInstantiate(&exec, graph, 0));
    const double us = time([&] {
      if (wait == Wait::kOutside) start_beside();
      cuda_ok(cudaGraphLaunch(exec, main_.get()));
    });
    cuda_ok(cudaStreamSynchronize(main_.get()));
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
  void start_beside() {
    start(side_.get(), 1);
    cuda_ok(cudaEventRecord(join_.get(), side_.get()));
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
  const bool early = std::exchange(engine::cuda::started_early(), false);
  costs.launches_us = bench.time([&] { bench.enqueue(GraphBench::Wait::kNone); });
  costs.plain_us = bench.replay_us(GraphBench::Wait::kNone);
  // Before the branch: an event that is a place in a graph is of no use outside it.
  costs.beside_us = bench.replay_us(GraphBench::Wait::kOutside);
  costs.forked_us = bench.replay_us(GraphBench::Wait::kBranch);
  engine::cuda::started_early() = early;
  if (early) costs.early_us = bench.replay_us(GraphBench::Wait::kNone);
  return costs;
}

}  // namespace engram::bench::gpu

// What a GPU refuses while work is captured, and what becomes of the capture.
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace engram::testing {
namespace {

struct Rig {
  Rig() {
    REQUIRE(cudaStreamCreateWithFlags(&main, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking) == cudaSuccess);
    REQUIRE(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming) == cudaSuccess);
    REQUIRE(cudaEventCreateWithFlags(&join, cudaEventDisableTiming) == cudaSuccess);
  }
  ~Rig() {
    cudaStreamDestroy(main);
    cudaStreamDestroy(side);
    cudaEventDestroy(fork);
    cudaEventDestroy(join);
  }
  void begin() {
    REQUIRE(cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  }
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(main, &graph);
    CHECK((graph == nullptr) == (error != cudaSuccess));
    if (graph != nullptr) cudaGraphDestroy(graph);
    return error;
  }

  cudaStream_t main = nullptr;
  cudaStream_t side = nullptr;
  cudaEvent_t fork = nullptr;
  cudaEvent_t join = nullptr;
  int from = 1;
  int to = 0;
};

cudaError_t copy(Rig& rig, cudaStream_t stream) {
  return cudaMemcpyAsync(&rig.to, &rig.from, sizeof(int), cudaMemcpyDefault, stream);
}

}  // namespace

TEST_CASE("calls that a capture forbids fail and break it", "[capture]") {
  Rig rig;
  const std::vector<std::function<cudaError_t()>> forbidden = {
      [] {
        void* data = nullptr;
        return cudaMalloc(&data, 16);
      },
      [] {
        void* data = nullptr;
        return cudaHostAlloc(&data, 16, cudaHostAllocPortable);
      },
      [&] { return cudaStreamSynchronize(rig.main); },
      [&] { return cudaEventSynchronize(rig.fork); },
      [&] { return cudaEventQuery(rig.fork); },
      [&] { return cudaMemset(&rig.to, 0, sizeof(int)); },
      [&] { return copy(rig, nullptr); },
  };
  for (const std::function<cudaError_t()>& call : forbidden) {
    rig.begin();
    CHECK(copy(rig, rig.main) == cudaSuccess);
    CHECK(call() != cudaSuccess);
    CHECK(copy(rig, rig.main) == cudaErrorStreamCaptureInvalidated);
    CHECK(rig.end() == cudaErrorStreamCaptureInvalidated);
  }
  // Afterwards everything is allowed again, and nothing has run.
  CHECK(cudaStreamSynchronize(rig.main) == cudaSuccess);
  CHECK(rig.to == 0);
}

TEST_CASE("another thread may do what the capturing one may not", "[capture]") {
  Rig rig;
  rig.begin();
  cudaError_t error = cudaErrorInvalidValue;
  std::thread([&] { error = cudaStreamSynchronize(rig.side); }).join();
  CHECK(error == cudaSuccess);
  CHECK(rig.end() == cudaSuccess);
}

TEST_CASE("a branch must lead back to the stream that captures", "[capture]") {
  Rig rig;
  for (const bool joins : {true, false}) {
    CAPTURE(joins);
    rig.begin();
    CHECK(cudaEventRecord(rig.fork, rig.main) == cudaSuccess);
    CHECK(cudaStreamWaitEvent(rig.side, rig.fork) == cudaSuccess);
    CHECK(copy(rig, rig.side) == cudaSuccess);
    CHECK(cudaEventRecord(rig.join, rig.side) == cudaSuccess);
    if (joins) CHECK(cudaStreamWaitEvent(rig.main, rig.join) == cudaSuccess);
    CHECK(rig.end() == (joins ? cudaSuccess : cudaErrorStreamCaptureUnjoined));
  }
}

TEST_CASE("only an external wait may be for an event of before", "[capture]") {
  Rig rig;
  REQUIRE(cudaEventRecord(rig.fork, rig.side) == cudaSuccess);
  rig.begin();
  CHECK(cudaStreamWaitEvent(rig.main, rig.fork, cudaEventWaitExternal) == cudaSuccess);
  CHECK(rig.end() == cudaSuccess);
  rig.begin();
  CHECK(cudaStreamWaitEvent(rig.main, rig.fork) == cudaErrorStreamCaptureIsolation);
  CHECK(rig.end() == cudaErrorStreamCaptureInvalidated);
}

TEST_CASE("a branch nobody waits for runs too late to be relied upon", "[capture]") {
  Rig rig;
  for (const bool waits : {true, false}) {
    CAPTURE(waits);
    rig.to = 0;
    int seen = 0;
    rig.begin();
    REQUIRE(cudaEventRecord(rig.fork, rig.main) == cudaSuccess);
    REQUIRE(cudaStreamWaitEvent(rig.side, rig.fork) == cudaSuccess);
    REQUIRE(copy(rig, rig.side) == cudaSuccess);
    REQUIRE(cudaEventRecord(rig.join, rig.side) == cudaSuccess);
    if (waits) REQUIRE(cudaStreamWaitEvent(rig.main, rig.join) == cudaSuccess);
    REQUIRE(
        cudaMemcpyAsync(&seen, &rig.to, sizeof(int), cudaMemcpyDefault, rig.main) == cudaSuccess);
    if (!waits) REQUIRE(cudaStreamWaitEvent(rig.main, rig.join) == cudaSuccess);
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(rig.main, &graph) == cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    REQUIRE(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    REQUIRE(cudaGraphLaunch(exec, rig.main) == cudaSuccess);
    REQUIRE(cudaStreamSynchronize(rig.main) == cudaSuccess);
    CHECK(seen == (waits ? 1 : 0));
    CHECK(rig.to == 1);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
  }
}

}  // namespace engram::testing

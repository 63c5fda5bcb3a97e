#include <cuda_runtime.h>

#include <cstdio>

#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/shared_memory.cuh"
#include "memory/device/cuda_handle.h"
#include "tests/support/cuda_emulation_test/kernels.h"

namespace engram::testing {
namespace {

using engine::cuda::launch;
using memory::cuda_ok;

constexpr unsigned kAllLanes = 0xffffffffu;

class TestStream {
 public:
  TestStream() : handle_(create()) {}
  ~TestStream() { wait(); }
  cudaStream_t get() const { return handle_.get(); }
  void wait() { cuda_ok(cudaStreamSynchronize(handle_.get())); }

 private:
  static cudaStream_t create() {
    cudaStream_t stream = nullptr;
    cuda_ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }
  memory::CudaStream handle_;
};

// Device memory with `count` elements.
template <typename T>
class Array {
 public:
  explicit Array(size_t count) : count_(count) {
    void* data = nullptr;
    cuda_ok(cudaMalloc(&data, count * sizeof(T)));
    data_ = static_cast<T*>(data);
  }
  Array(const std::vector<T>& values, TestStream& stream) : Array(values.size()) {
    cuda_ok(
        cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T), cudaMemcpyDefault, stream.get()));
    stream.wait();
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { cuda_ok(cudaFree(data_)); }

  T* get() const { return data_; }
  std::vector<T> read(TestStream& stream) const {
    std::vector<T> values(count_);
    cuda_ok(
        cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDefault, stream.get()));
    stream.wait();
    return values;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

__global__ void row_sums_kernel(const float* x, int64_t cols, float* sums) {
  float(&partial)[32] = engine::cuda::shared<float[32], struct PartialSums>();
  float sum = 0.f;
  for (int64_t c = threadIdx.x; c < cols; c += blockDim.x) sum += x[blockIdx.x * cols + c];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.f;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += partial[warp];
    sums[blockIdx.x] = total;
  }
}

__global__ void reversed_kernel(bool barrier, int* out) {
  int* numbers = engine::cuda::dynamic_shared<int>();
  numbers[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (barrier) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = numbers[blockDim.x - 1 - threadIdx.x];
}

__global__ void unwritten_kernel(float* out) {
  float& value = engine::cuda::shared<float, struct Unwritten>();
  out[2 * blockIdx.x] = value;
  value = 1.f + static_cast<float>(blockIdx.x);
  out[2 * blockIdx.x + 1] = value;
}

__global__ void histogram_kernel(const unsigned* values, int64_t count, unsigned* bins) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    atomicAdd(&bins[values[i]], 1u);
  }
}

__global__ void warp_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int mine = 10 * lane;
  int* results = out + lane * 7;
  results[0] = __shfl_sync(kAllLanes, mine, 3, 8);
  results[1] = __shfl_up_sync(kAllLanes, mine, 2u, 8);
  results[2] = __shfl_down_sync(kAllLanes, mine, 2u, 8);
  results[3] = __shfl_xor_sync(kAllLanes, mine, 5, 8);
  results[4] = static_cast<int>(__ballot_sync(kAllLanes, lane % 2));
  results[5] = __any_sync(kAllLanes, lane == 31 ? 1 : 0);
  results[6] = __all_sync(kAllLanes, lane == 31 ? 1 : 0);
}

__global__ void poll_kernel(const int* flag, const int* value, int* out) {
  while (*static_cast<const volatile int*>(flag) == 0) __nanosleep(100);
  __threadfence();
  *out = *static_cast<const volatile int*>(value);
}

__global__ void append_kernel(int number, int* list, int* size) {
  list[(*size)++] = number;
}

__global__ void ranks_kernel(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned rank = block * blockDim.x + threadIdx.x;
  out[rank] = rank;
}

}  // namespace

bool can_run_kernels() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return true;
  std::printf("SKIPPED: no CUDA device: %s\n", cudaGetErrorString(error));
  return false;
}

std::vector<float> row_sums(const std::vector<float>& x, int64_t rows, int64_t cols, int threads) {
  TestStream stream;
  const Array<float> values(x, stream);
  const Array<float> sums(static_cast<size_t>(rows));
  launch(
      row_sums_kernel,
      {.blocks = static_cast<unsigned>(rows), .threads = threads, .stream = stream.get()},
      values.get(), cols, sums.get());
  return sums.read(stream);
}

std::vector<int> reversed(int blocks, int threads, bool barrier) {
  TestStream stream;
  const Array<int> out(static_cast<size_t>(blocks * threads));
  launch(
      reversed_kernel,
      {.blocks = static_cast<unsigned>(blocks),
       .threads = threads,
       .shared_bytes = threads * 4,
       .stream = stream.get()},
      barrier, out.get());
  return out.read(stream);
}

std::vector<float> unwritten_then_written() {
  TestStream stream;
  const Array<float> out(6);
  launch(unwritten_kernel, {.blocks = 3, .threads = 1, .stream = stream.get()}, out.get());
  return out.read(stream);
}

std::vector<unsigned> histogram(const std::vector<unsigned>& values, unsigned bins) {
  TestStream stream;
  const Array<unsigned> in(values, stream);
  const Array<unsigned> out(std::vector<unsigned>(bins), stream);
  launch(
      histogram_kernel, {.blocks = 5, .threads = 64, .stream = stream.get()}, in.get(),
      static_cast<int64_t>(values.size()), out.get());
  return out.read(stream);
}

std::vector<int> warp_operations() {
  TestStream stream;
  const Array<int> out(32 * 7);
  launch(warp_kernel, {.blocks = 1, .threads = 32, .stream = stream.get()}, out.get());
  return out.read(stream);
}

int value_behind_flag(int value) {
  TestStream reader;
  TestStream writer;
  const std::vector<int> zero = {0};
  const std::vector<int> one = {1};
  const std::vector<int> wanted = {value};
  const Array<int> flag(zero, reader);
  const Array<int> data(zero, reader);
  const Array<int> out(zero, reader);
  launch(
      poll_kernel, {.blocks = 1, .threads = 1, .stream = reader.get()}, flag.get(), data.get(),
      out.get());
  cuda_ok(cudaMemcpyAsync(data.get(), wanted.data(), 4, cudaMemcpyDefault, writer.get()));
  cuda_ok(cudaMemcpyAsync(flag.get(), one.data(), 4, cudaMemcpyDefault, writer.get()));
  writer.wait();
  return out.read(reader)[0];
}

std::vector<int> ordered_by_events(int rounds) {
  TestStream a;
  TestStream b;
  const auto make_event = [] {
    cudaEvent_t event = nullptr;
    cuda_ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return memory::CudaEvent(event);
  };
  const memory::CudaEvent after_a = make_event();
  const memory::CudaEvent after_b = make_event();
  const Array<int> list(static_cast<size_t>(2 * rounds));
  const Array<int> size(std::vector<int>{0}, a);
  for (int i = 0; i < rounds; ++i) {
    launch(
        append_kernel, {.blocks = 1, .threads = 1, .stream = a.get()}, 2 * i, list.get(),
        size.get());
    cuda_ok(cudaEventRecord(after_a.get(), a.get()));
    cuda_ok(cudaStreamWaitEvent(b.get(), after_a.get(), 0));
    launch(
        append_kernel, {.blocks = 1, .threads = 1, .stream = b.get()}, 2 * i + 1, list.get(),
        size.get());
    cuda_ok(cudaEventRecord(after_b.get(), b.get()));
    cuda_ok(cudaStreamWaitEvent(a.get(), after_b.get(), 0));
  }
  b.wait();
  return list.read(a);
}

std::vector<unsigned> ranks(unsigned x, unsigned y, unsigned z) {
  TestStream stream;
  const Array<unsigned> out(size_t{x} * y * z * 32);
  launch(ranks_kernel, {.blocks = dim3(x, y, z), .threads = 32, .stream = stream.get()}, out.get());
  return out.read(stream);
}

}  // namespace engram::testing

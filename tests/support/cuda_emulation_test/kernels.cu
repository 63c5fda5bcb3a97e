#include <cuda_runtime.h>

#include <cstdio>

#include "engine/ops/cuda/async_copy.cuh"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/mma.cuh"
#include "engine/ops/cuda/shared_memory.cuh"
#include "engine/ops/cuda/values.cuh"
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

__global__ void matrix_product_kernel(const float* a, const float* b, bool transpose_b, float* d) {
  using Square = engine::cuda::Bf16[16][16];
  Square& left = engine::cuda::shared<Square, struct Left>();
  using Half = engine::cuda::Bf16[16 * 8];
  Half& right = engine::cuda::shared<Half, struct Right>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) {
    left[i / 16][i % 16] = engine::cuda::narrow<engine::cuda::Bf16>(a[i]);
  }
  for (int i = lane; i < 128; i += 32) {
    const int at = transpose_b ? i : i % 8 * 16 + i / 8;
    right[at] = engine::cuda::narrow<engine::cuda::Bf16>(b[i]);
  }
  __syncwarp();
  uint32_t of_a[4];
  uint32_t of_b[4];
  engine::cuda::load_matrices(&left[lane % 16][lane / 16 * 8], of_a);
  if (transpose_b) {
    engine::cuda::load_matrices_transposed(&right[lane % 16 * 8], of_b);
  } else {
    engine::cuda::load_matrices(&right[lane % 8 * 16 + lane / 8 % 2 * 8], of_b);
  }
  float sums[4] = {};
  engine::cuda::mma_bf16(of_a, {of_b[0], of_b[1]}, sums);
  const int at = lane / 4 * 8 + lane % 4 * 2;
  d[at] = sums[0];
  d[at + 1] = sums[1];
  d[at + 64] = sums[2];
  d[at + 65] = sums[3];
}

__global__ void copies_kernel(const int* in, bool wait, int* out) {
  int* numbers = engine::cuda::dynamic_shared<int>();
  const int lane = static_cast<int>(threadIdx.x);
  engine::cuda::copy_16_async(numbers + lane * 4, in + lane * 4, true);
  engine::cuda::commit_copies();
  engine::cuda::copy_16_async(numbers + 128 + lane * 4, in + 128 + lane * 4, lane % 2 == 0);
  engine::cuda::commit_copies();
  if (wait) engine::cuda::wait_for_copies<1>();
  for (int i = 0; i < 4; ++i) out[lane * 4 + i] = numbers[lane * 4 + i];
  engine::cuda::wait_for_copies<0>();
  __syncthreads();
  for (int i = lane; i < 128; i += 32) out[128 + i] = numbers[128 + i];
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

std::vector<float> matrix_product(
    const std::vector<float>& a, const std::vector<float>& b, bool transpose_b) {
  TestStream stream;
  const Array<float> left(a, stream);
  const Array<float> right(b, stream);
  const Array<float> out(128);
  launch(
      matrix_product_kernel, {.blocks = 1, .threads = 32, .stream = stream.get()}, left.get(),
      right.get(), transpose_b, out.get());
  return out.read(stream);
}

std::vector<int> asynchronous_copies(const std::vector<int>& in, bool wait) {
  TestStream stream;
  const Array<int> from(in, stream);
  const Array<int> out(256);
  launch(
      copies_kernel, {.blocks = 1, .threads = 32, .shared_bytes = 1024, .stream = stream.get()},
      from.get(), wait, out.get());
  return out.read(stream);
}

}  // namespace engram::testing

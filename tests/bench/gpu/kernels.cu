#include <utility>

#include "engine/ops/cuda/async_copy.cuh"
#include "engine/ops/cuda/launch.cuh"
#include "engine/ops/cuda/shared_memory.cuh"
#include "engine/ops/cuda/values.cuh"
#include "memory/device/cuda_handle.h"
#include "tests/bench/gpu/kernels.h"

namespace engram::bench::gpu {
namespace {

using engine::cuda::launch;
using memory::cuda_ok;
using memory::CudaEvent;
using memory::native_stream;
using memory::cuda::load_pack;
using memory::cuda::narrow;
using memory::cuda::Pack;
using memory::cuda::store_pack;

using Chunk = Pack<uint32_t, 4>;
constexpr int kThreads = 512;
constexpr int kDeep = 4;  // accesses of a thread on their way

__device__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ int64_t thread_count() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

__global__ void read_kernel(const uint32_t* from, int64_t chunks, uint32_t* sink) {
  engine::cuda::wait_for_turn();
  uint32_t sum = 0;
  const int64_t threads = thread_count();
#pragma unroll 1
  for (int64_t i = thread_index(); i < chunks; i += kDeep * threads) {
    Chunk chunk[kDeep];
#pragma unroll
    for (int d = 0; d < kDeep; ++d) {
      const int64_t at = i + d * threads;
      chunk[d] = load_pack<uint32_t, 4>(from + 4 * (at < chunks ? at : i));
    }
#pragma unroll
    for (int d = 0; d < kDeep; ++d) {
      sum += chunk[d].v[0] ^ chunk[d].v[1] ^ chunk[d].v[2] ^ chunk[d].v[3];
    }
  }
  if (sum == 0x9e3779b9u) *sink = sum;  // the compiler cannot know that it is not
}

template <typename T>
__global__ void fill_kernel(T* to, int64_t count, float scale, uint32_t seed) {
  engine::cuda::wait_for_turn();
  for (int64_t i = thread_index(); i < count; i += thread_count()) {
    uint32_t x = static_cast<uint32_t>(i) * 0x9e3779b9u + static_cast<uint32_t>(i >> 32) + seed;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    to[i] = narrow<T>(scale * 0x1p-31f * static_cast<float>(static_cast<int32_t>(x)));
  }
}

// Chunk i of the gathered rows, `row_chunks` to a row. In 32 bits: a division in 64 would cost more
// than the load.
__device__ const uint32_t* chunk_at(
    const uint32_t* table, uint32_t row_chunks, const int64_t* ids, int64_t i) {
  const uint32_t at = static_cast<uint32_t>(i);
  const uint32_t row = at / row_chunks;
  return table + 4 * (ids[row] * row_chunks + (at - row * row_chunks));
}

__global__ void gather_loads_kernel(
    const uint32_t* table, uint32_t row_chunks, const int64_t* ids, int64_t total, uint32_t* out) {
  engine::cuda::wait_for_turn();
  const int64_t threads = thread_count();
  for (int64_t i = thread_index(); i < total; i += kDeep * threads) {
    Chunk chunk[kDeep];
#pragma unroll
    for (int d = 0; d < kDeep; ++d) {
      const int64_t at = i + d * threads < total ? i + d * threads : i;
      chunk[d] = load_pack<uint32_t, 4>(chunk_at(table, row_chunks, ids, at));
    }
#pragma unroll
    for (int d = 0; d < kDeep; ++d) {
      const int64_t at = i + d * threads;
      if (at < total) store_pack<uint32_t, 4>(chunk[d], out + 4 * at);
    }
  }
}

// A thread waits for its own copies only, so no barrier is needed.
__global__ void gather_async_kernel(
    const uint32_t* table, uint32_t row_chunks, const int64_t* ids, int64_t total, uint32_t* out) {
  engine::cuda::wait_for_turn();
  Chunk* slots = engine::cuda::dynamic_shared<Chunk>();
  const int64_t threads = thread_count();
  const int64_t first = thread_index();
  const auto slot = [&](int64_t turn) { return slots + turn % kDeep * blockDim.x + threadIdx.x; };
  const auto start = [&](int64_t turn) {
    const int64_t at = first + turn * threads;
    if (at < total) {
      engine::cuda::copy_16_async(slot(turn), chunk_at(table, row_chunks, ids, at), true);
    }
    engine::cuda::commit_copies();
  };
  for (int64_t turn = 0; turn < kDeep - 1; ++turn) start(turn);
  for (int64_t turn = 0; first + turn * threads < total; ++turn) {
    start(turn + kDeep - 1);
    engine::cuda::wait_for_copies<kDeep - 1>();
    store_pack<uint32_t, 4>(*slot(turn), out + 4 * (first + turn * threads));
  }
  engine::cuda::wait_for_copies<0>();
}

__global__ void chase_kernel(const int64_t* from, int64_t count, int64_t* sink) {
  engine::cuda::wait_for_turn();
  int64_t at = 0;
  for (int64_t i = 0; i < count; ++i) at = from[at];
  *sink = at;
}

unsigned blocks_for(int64_t items, int64_t most) {
  const int64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

template <typename T>
void fill(Stream& stream, void* to, int64_t count, float scale, uint32_t seed) {
  launch(
      fill_kernel<T>,
      {.blocks = dim3(blocks_for(count, 1024)),
       .threads = kThreads,
       .stream = native_stream(stream)},
      static_cast<T*>(to), count, scale, seed);
}

CudaEvent make_event() {
  cudaEvent_t event = nullptr;
  cuda_ok(cudaEventCreateWithFlags(&event, cudaEventDefault));
  return CudaEvent(event);
}

}  // namespace

struct Timer::Events {
  CudaEvent begin = make_event();
  CudaEvent end = make_event();
};

Timer::Timer() : events_(std::make_unique<Events>()) {}
Timer::~Timer() = default;
Timer::Timer(Timer&&) noexcept = default;
Timer& Timer::operator=(Timer&&) noexcept = default;

void Timer::start(Stream& stream) {
  cuda_ok(cudaEventRecord(events_->begin.get(), native_stream(stream)));
}
void Timer::stop(Stream& stream) {
  cuda_ok(cudaEventRecord(events_->end.get(), native_stream(stream)));
}
double Timer::us() const {
  cuda_ok(cudaEventSynchronize(events_->end.get()));
  float ms = 0.f;
  cuda_ok(cudaEventElapsedTime(&ms, events_->begin.get(), events_->end.get()));
  return 1e3 * static_cast<double>(ms);
}

GpuFacts gpu_facts() {
  cudaDeviceProp properties{};
  cuda_ok(cudaGetDeviceProperties(&properties, 0));
  GpuFacts facts;
  facts.name = properties.name;
  facts.multiprocessors = properties.multiProcessorCount;
  facts.l2_bytes = properties.l2CacheSize;
  facts.emulated = facts.name == "emulation";
  return facts;
}

void enqueue_read(Stream& stream, const void* from, int64_t bytes, int blocks, uint32_t* sink) {
  launch(
      read_kernel,
      {.blocks = dim3(static_cast<unsigned>(blocks)),
       .threads = kThreads,
       .stream = native_stream(stream)},
      static_cast<const uint32_t*>(from), bytes / 16, sink);
}

void enqueue_fill_bf16(Stream& stream, void* to, int64_t count, float scale, uint32_t seed) {
  fill<memory::Bf16>(stream, to, count, scale, seed);
}
void enqueue_fill_e4m3(Stream& stream, void* to, int64_t count, float scale, uint32_t seed) {
  fill<memory::E4m3>(stream, to, count, scale, seed);
}
void enqueue_fill_f32(Stream& stream, void* to, int64_t count, float scale, uint32_t seed) {
  fill<float>(stream, to, count, scale, seed);
}

void enqueue_raw_gather(Stream& stream, const RawGather& g) {
  const bool async = g.method == GatherMethod::kAsync;
  const int64_t row_chunks = g.row_bytes / 16;
  ENGRAM_CHECK(g.count * row_chunks < int64_t{1} << 31);
  launch(
      async ? gather_async_kernel : gather_loads_kernel,
      {.blocks = dim3(static_cast<unsigned>(g.blocks)),
       .threads = kThreads,
       .shared_bytes = async ? kDeep * kThreads * static_cast<int64_t>(sizeof(Chunk)) : 0,
       .stream = native_stream(stream)},
      static_cast<const uint32_t*>(g.table), static_cast<uint32_t>(row_chunks), g.ids,
      g.count * row_chunks, static_cast<uint32_t*>(g.out));
}

void enqueue_chase(Stream& stream, const int64_t* from, int64_t count, int64_t* sink) {
  launch(
      chase_kernel, {.blocks = dim3(1), .threads = 1, .stream = native_stream(stream)}, from, count,
      sink);
}

}  // namespace engram::bench::gpu

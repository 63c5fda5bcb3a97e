// What the benchmarks run on a GPU besides the ops: loops that do nothing but move bytes, and
// clocks of the GPU. Free of CUDA headers. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memory/device/device.h"

namespace engram::bench::gpu {

using memory::Stream;

struct GpuFacts {
  std::string name;
  int multiprocessors = 0;
  int64_t l2_bytes = 0;
  bool emulated = false;
};
GpuFacts gpu_facts();

// Two events of the GPU's clock.
class Timer {
 public:
  Timer();
  ~Timer();
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;

  void start(Stream& stream);
  void stop(Stream& stream);
  // Waits for what stop() marked.
  double us() const;

 private:
  struct Events;
  std::unique_ptr<Events> events_;
};

// Reads [0, bytes) with so many blocks of 512 threads; some function of it goes to *sink, device
// memory. REQUIRES: bytes is a multiple of 16.
void enqueue_read(Stream& stream, const void* from, int64_t bytes, int blocks, uint32_t* sink);
// Even values in -scale .. scale.
void enqueue_fill_bf16(Stream& stream, void* to, int64_t count, float scale, uint32_t seed);
void enqueue_fill_e4m3(Stream& stream, void* to, int64_t count, float scale, uint32_t seed);
void enqueue_fill_f32(Stream& stream, void* to, int64_t count, float scale, uint32_t seed);

// Rows as they are stored, nothing decoded: what a gather costs that does nothing else.
//   kLoads  16 bytes per lane, four loads of a thread on their way at a time
//   kAsync  cp.async to shared memory, four of a thread on their way
enum class GatherMethod { kLoads, kAsync };
struct RawGather {
  const void* table = nullptr;  // device or pinned host memory
  int64_t row_bytes = 0;        // a multiple of 16
  const int64_t* ids = nullptr;
  int64_t count = 0;
  void* out = nullptr;  // device memory, row after row
  int blocks = 8;
  GatherMethod method = GatherMethod::kLoads;
};
void enqueue_raw_gather(Stream& stream, const RawGather& gather);

// A chain of `count` reads of 8 bytes, each at the index the one before read; the last one to
// *sink.
void enqueue_chase(Stream& stream, const int64_t* from, int64_t count, int64_t* sink);

}  // namespace engram::bench::gpu

// Runs a CUDA kernel on the CPU, block by block, with one fibre per thread. Barriers and warp
// operations are where threads give way to each other; between them a thread runs alone, so what a
// kernel gets wrong about them shows as a wrong value or as a report.
//
// A report names the kernel's block, the threads and the source lines, and ends the process:
//   - a barrier that not all threads of the block reach, or reach at different lines
//   - a warp operation whose mask names a thread that never comes, or that is called from outside
//     its own mask
//   - threads that wait for each other without end
//   - a thread that ends without waiting for the kernel before, of a kernel that may start early
// Shared memory is filled with 0xff bytes (NaN, -1) before each block and has exactly the size
// asked for, so that AddressSanitizer sees what lies outside.
//
// A block runs on one OS thread; blocks of one grid run one after the other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

namespace cuda_emulation {

struct Dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr Dim3() = default;
  constexpr Dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct Index3 {
  unsigned x = 0;
  unsigned y = 0;
  unsigned z = 0;
};

// In which order the threads of a block, and the blocks of a grid, get their turn. A correct kernel
// gives the same in each. Forward and reverse let one warp run until it waits for the others before
// the next one begins, so that whoever relies on another warp without a barrier reads too early or
// too late; shuffled keeps the warps in step, their threads in a random order.
enum class Order : uint8_t { kForward, kReverse, kShuffled };
// For grids that start from now on, of any stream. The seed is for kShuffled.
void set_order(Order order, uint64_t seed);

struct GridShape {
  Dim3 grid;
  Dim3 block;
  size_t shared_bytes = 0;  // dynamic shared memory of a block
  bool early = false;       // may be started while the kernel before it runs
};

// Returns when every thread of every block has ended.
void run_grid(const GridShape& shape, const std::function<void()>& kernel);

// What follows is called by running threads of a kernel.

void block_barrier(std::source_location at);
void wait_for_predecessor();
// Other threads, and other streams, go on before this one does.
void give_way();
void* dynamic_shared();
// Static shared memory: one piece per block and key, made at the first call.
void* static_shared(const void* key, size_t bytes, size_t alignment);

// What the lanes of a warp brought to one operation.
struct WarpValues {
  static constexpr size_t kBytes = 16;
  std::array<std::array<std::byte, kBytes>, 32> of_lane;
  unsigned present = 0;  // lanes that came
};
// Waits until all threads of the warp that `mask` names, and that have not ended, are at the same
// line with the same mask. The reference is good until the thread's next warp operation.
const WarpValues& warp_meet(
    unsigned mask, const void* value, size_t bytes, std::source_location at);
int lane_id();

// The value that lane brought; 0xff bytes where none came, as a GPU promises nothing for it.
template <typename T>
T value_of(const WarpValues& values, int lane) {
  T value;
  std::memset(static_cast<void*>(&value), 0xff, sizeof(T));
  if (lane >= 0 && lane < 32 && ((values.present >> lane) & 1u) != 0) {
    std::memcpy(
        static_cast<void*>(&value), values.of_lane[static_cast<size_t>(lane)].data(), sizeof(T));
  }
  return value;
}

template <typename T>
const WarpValues& warp_meet(unsigned mask, const T& value, std::source_location at) {
  static_assert(std::is_trivially_copyable_v<T>);
  static_assert(sizeof(T) <= WarpValues::kBytes);
  return warp_meet(mask, &value, sizeof(T), at);
}

}  // namespace cuda_emulation

// The running thread's place, by CUDA's names.
extern constinit thread_local cuda_emulation::Index3 threadIdx;
extern constinit thread_local cuda_emulation::Index3 blockIdx;
extern constinit thread_local cuda_emulation::Dim3 blockDim;
extern constinit thread_local cuda_emulation::Dim3 gridDim;

// CUDA's vocabulary for g++: what kernels and host code of this project use of the runtime, served
// by the CPU. Found instead of the toolkit's header by programs that test .cu files without a GPU.
// Device memory is host memory of exactly the size asked for; streams are OS threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/support/cuda_emulation/grid.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

using dim3 = cuda_emulation::Dim3;
using uint3 = cuda_emulation::Index3;
constexpr int warpSize = 32;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline int2 make_int2(int x, int y) {
  return {x, y};
}
inline int4 make_int4(int x, int y, int z, int w) {
  return {x, y, z, w};
}
inline uint2 make_uint2(unsigned x, unsigned y) {
  return {x, y};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

// Threads of a block and of a warp.

inline void __syncthreads(std::source_location at = std::source_location::current()) {
  cuda_emulation::block_barrier(at);
}
inline void __syncwarp(
    unsigned mask = 0xffffffffu, std::source_location at = std::source_location::current()) {
  cuda_emulation::warp_meet(mask, 0, at);
}
inline void __threadfence_block() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
inline void __threadfence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
inline void __threadfence_system() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
}
// A kernel that polls a flag calls it between two looks; here others run meanwhile.
inline void __nanosleep(unsigned) {
  cuda_emulation::give_way();
}

[[noreturn]] inline void __trap() {
  std::abort();
}

namespace cuda_emulation {
// Lanes form groups of `width`; a source outside the own group gives the own value.
template <typename T>
T shuffle(unsigned mask, T value, int source, bool inside, std::source_location at) {
  const WarpValues& all = warp_meet(mask, value, at);
  return inside ? value_of<T>(all, source) : value;
}
}  // namespace cuda_emulation

template <typename T>
T __shfl_sync(
    unsigned mask,
    T value,
    int source,
    int width = warpSize,
    std::source_location at = std::source_location::current()) {
  const int group = cuda_emulation::lane_id() / width * width;
  return cuda_emulation::shuffle(mask, value, group + (source & (width - 1)), true, at);
}
template <typename T>
T __shfl_xor_sync(
    unsigned mask,
    T value,
    int lanes,
    int width = warpSize,
    std::source_location at = std::source_location::current()) {
  const int lane = cuda_emulation::lane_id();
  const int source = lane ^ lanes;
  // Later groups may be read by none, earlier ones by all: the hardware's rule.
  return cuda_emulation::shuffle(mask, value, source, source < (lane / width + 1) * width, at);
}
template <typename T>
T __shfl_up_sync(
    unsigned mask,
    T value,
    unsigned lanes,
    int width = warpSize,
    std::source_location at = std::source_location::current()) {
  const int lane = cuda_emulation::lane_id();
  const int source = lane - static_cast<int>(lanes);
  return cuda_emulation::shuffle(mask, value, source, source >= lane / width * width, at);
}
template <typename T>
T __shfl_down_sync(
    unsigned mask,
    T value,
    unsigned lanes,
    int width = warpSize,
    std::source_location at = std::source_location::current()) {
  const int lane = cuda_emulation::lane_id();
  const int source = lane + static_cast<int>(lanes);
  return cuda_emulation::shuffle(mask, value, source, source < (lane / width + 1) * width, at);
}
inline unsigned __ballot_sync(
    unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  const cuda_emulation::WarpValues& all = cuda_emulation::warp_meet(mask, predicate, at);
  unsigned votes = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    if (((all.present >> lane) & 1u) == 0) continue;
    if (cuda_emulation::value_of<int>(all, lane) != 0) votes |= 1u << lane;
  }
  return votes;
}
inline int __any_sync(
    unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  return __ballot_sync(mask, predicate, at) != 0 ? 1 : 0;
}
inline int __all_sync(
    unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  return __ballot_sync(mask, predicate == 0 ? 1 : 0, at) == 0 ? 1 : 0;
}

// Atomics: other streams and the host may touch the same word.

template <typename T, typename U>
T atomicAdd(T* address, U value) {
  return std::atomic_ref<T>(*address).fetch_add(static_cast<T>(value));
}
template <typename T, typename U>
T atomicExch(T* address, U value) {
  return std::atomic_ref<T>(*address).exchange(static_cast<T>(value));
}
template <typename T>
T atomicCAS(T* address, T expected, T desired) {
  std::atomic_ref<T>(*address).compare_exchange_strong(expected, desired);
  return expected;
}
template <typename T, typename Change>
T atomic_change(T* address, const Change& change) {
  std::atomic_ref<T> word(*address);
  T old = word.load();
  while (!word.compare_exchange_weak(old, change(old))) {
  }
  return old;
}
template <typename T>
T atomicMax(T* address, T value) {
  return atomic_change(address, [value](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* address, T value) {
  return atomic_change(address, [value](T old) { return std::min(old, value); });
}
template <typename T>
T atomicOr(T* address, T value) {
  return atomic_change(address, [value](T old) { return old | value; });
}

// Arithmetic and memory.

using std::max;
using std::min;

template <typename T>
T __ldg(const T* address) {
  return *address;
}
inline float rsqrtf(float x) {
  return 1.f / std::sqrt(x);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __logf(float x) {
  return std::log(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __fmaf_rn(float x, float y, float z) {
  return std::fma(x, y, z);
}
inline float __fmul_rn(float x, float y) {
  return x * y;
}
inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __clzll(int64_t x) {
  return std::countl_zero(static_cast<uint64_t>(x));
}
inline uint64_t __umul64hi(uint64_t x, uint64_t y) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>(Wide{x} * y >> 64);
}
inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}

#include "tests/support/cuda_emulation/runtime_api.h"

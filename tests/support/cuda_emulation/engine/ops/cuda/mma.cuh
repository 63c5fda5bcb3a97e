// Matrix products of a warp under emulation; see the header of this name in engine/ops/cuda.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <source_location>

#include "engine/ops/cuda/values.cuh"
#include "tests/support/cuda_emulation/grid.h"

namespace cuda_emulation {

// The rows of four matrices, as the lanes bring them.
inline std::array<const uint16_t*, 32> matrix_rows(const void* row, std::source_location at) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
    std::fputs("cuda emulation: a matrix row is not 16-byte aligned\n", stderr);
    std::abort();
  }
  const WarpValues& all = warp_meet(0xffffffffu, row, at);
  std::array<const uint16_t*, 32> rows;
  for (int lane = 0; lane < 32; ++lane) {
    rows[static_cast<size_t>(lane)] =
        static_cast<const uint16_t*>(value_of<const void*>(all, lane));
  }
  return rows;
}

}  // namespace cuda_emulation

namespace engram::engine::cuda {

// The element (row, k) of the words that lanes hold as mma_bf16() wants them; both operands have k
// in pairs, eight apart: b is a with half the rows.
template <size_t kWords>
float fragment_element(const cuda_emulation::WarpValues& words, int row, int k) {
  using Words = std::array<uint32_t, kWords>;
  const Words held = cuda_emulation::value_of<Words>(words, row % 8 * 4 + k % 8 / 2);
  const size_t above = kWords / 2;  // words of one k-half
  const uint32_t word = held[static_cast<size_t>(k / 8) * above + static_cast<size_t>(row / 8)];
  return std::bit_cast<float>(k % 2 == 0 ? word << 16 : word & 0xffff0000u);
}

inline void mma_bf16(
    const uint32_t (&a)[4],
    const uint32_t (&b)[2],
    float (&c)[4],
    std::source_location at = std::source_location::current()) {
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = cuda_emulation::lane_id();
  float rows[2][16];
  const cuda_emulation::WarpValues& all_a = cuda_emulation::warp_meet(kAll, std::to_array(a), at);
  for (int k = 0; k < 16; ++k) {
    rows[0][k] = fragment_element<4>(all_a, lane / 4, k);
    rows[1][k] = fragment_element<4>(all_a, lane / 4 + 8, k);
  }
  const cuda_emulation::WarpValues& all_b = cuda_emulation::warp_meet(kAll, std::to_array(b), at);
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 16; ++k) {
      c[i] += rows[i / 2][k] * fragment_element<2>(all_b, lane % 4 * 2 + i % 2, k);
    }
  }
}

inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(narrow<Bf16>(low).bits) |
         static_cast<uint32_t>(narrow<Bf16>(high).bits) << 16;
}

inline void widen_codes(uint32_t codes, uint32_t (&pairs)[2]) {
  const auto widened = [&](int i) {
    const uint8_t code = static_cast<uint8_t>(codes >> (8 * i));
    return (code & 0x7f) == 0x7f ? 480.f : memory::e4m3_to_float(code);
  };
  for (int i = 0; i < 2; ++i) pairs[i] = pack_bf16(widened(2 * i), widened(2 * i + 1));
}

inline void load_matrices(
    const void* row,
    uint32_t (&words)[4],
    std::source_location at = std::source_location::current()) {
  const std::array<const uint16_t*, 32> rows = cuda_emulation::matrix_rows(row, at);
  const size_t group = static_cast<size_t>(cuda_emulation::lane_id() / 4);
  const int pair = cuda_emulation::lane_id() % 4 * 2;
  for (size_t m = 0; m < 4; ++m) std::memcpy(&words[m], rows[m * 8 + group] + pair, 4);
}

inline void load_matrices_transposed(
    const void* row,
    uint32_t (&words)[4],
    std::source_location at = std::source_location::current()) {
  const std::array<const uint16_t*, 32> rows = cuda_emulation::matrix_rows(row, at);
  const int group = cuda_emulation::lane_id() / 4;
  const size_t pair = static_cast<size_t>(cuda_emulation::lane_id() % 4 * 2);
  for (size_t m = 0; m < 4; ++m) {
    words[m] = static_cast<uint32_t>(rows[m * 8 + pair][group]) |
               static_cast<uint32_t>(rows[m * 8 + pair + 1][group]) << 16;
  }
}

}  // namespace engram::engine::cuda

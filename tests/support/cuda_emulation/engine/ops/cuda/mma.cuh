// Matrix products of a warp under emulation; see the header of this name in engine/ops/cuda.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <source_location>

#include "tests/support/cuda_emulation/grid.h"

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

}  // namespace engram::engine::cuda

// Philox4x32-10: random numbers as a function of a key and a counter.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include <array>
#include <cstdint>

namespace engram::engine::cpu {

inline std::array<uint32_t, 4> philox4x32(
    std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
        static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// Uniform in [0, 1), 53 bits: a function of the seed and of how many numbers were drawn before.
inline double uniform(uint64_t seed, uint64_t draw_index) {
  const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  const auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  const std::array<uint32_t, 4> bits =
      philox4x32({low(draw_index), high(draw_index), 0, 0}, {low(seed), high(seed)});
  const uint64_t word = (uint64_t{bits[1]} << 32 | bits[0]) >> 11;
  return static_cast<double>(word) * 0x1p-53;
}

}  // namespace engram::engine::cpu

#include "engine/model/pcg64.h"

#include <array>
#include <bit>
#include <limits>

#include "memory/base/status.h"

namespace engram::engine {
namespace {

// Constants of NumPy's SeedSequence (M. E. O'Neill's seed_seq alternative); all arithmetic mod
// 2^32.
constexpr uint32_t kInitA = 0x43b0d7e5;
constexpr uint32_t kMultA = 0x931e8875;
constexpr uint32_t kInitB = 0x8b51f9dd;
constexpr uint32_t kMultB = 0x58f38ded;
constexpr uint32_t kMixLeft = 0xca01f9dd;
constexpr uint32_t kMixRight = 0x4973f715;

uint32_t hash_mix(uint32_t value, uint32_t* h) {
  value ^= *h;
  *h *= kMultA;
  value *= *h;
  return value ^ (value >> 16);
}

uint32_t mix(uint32_t x, uint32_t y) {
  const uint32_t z = kMixLeft * x - kMixRight * y;
  return z ^ (z >> 16);
}

constexpr Uint128 wide(uint64_t high, uint64_t low) {
  return (Uint128{high} << 64) | low;
}

constexpr Uint128 kPcgMultiplier = wide(2549297995355413924u, 4865540595714422341u);

}  // namespace

std::vector<uint64_t> Pcg64::seed_words(uint64_t seed) {
  uint32_t h = kInitA;
  std::array<uint32_t, 4> pool = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (uint32_t& word : pool) word = hash_mix(word, &h);
  for (size_t from = 0; from < pool.size(); ++from) {
    for (size_t to = 0; to < pool.size(); ++to) {
      if (to != from) pool[to] = mix(pool[to], hash_mix(pool[from], &h));
    }
  }
  h = kInitB;
  std::array<uint32_t, 8> state{};
  for (size_t i = 0; i < state.size(); ++i) {
    uint32_t d = pool[i % pool.size()] ^ h;
    h *= kMultB;
    d *= h;
    state[i] = d ^ (d >> 16);
  }
  std::vector<uint64_t> words;
  for (size_t i = 0; i < state.size(); i += 2) {
    words.push_back(state[i] | uint64_t{state[i + 1]} << 32);
  }
  return words;
}

Pcg64::Pcg64(uint64_t seed) {
  const std::vector<uint64_t> words = seed_words(seed);
  increment_ = (wide(words[2], words[3]) << 1) | 1;
  next();
  state_ += wide(words[0], words[1]);
  next();
}

uint64_t Pcg64::next() {
  state_ = state_ * kPcgMultiplier + increment_;
  const uint64_t folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
  return std::rotr(folded, static_cast<int>(state_ >> 122));
}

uint64_t Pcg64::below(uint64_t bound) {
  ENGRAM_CHECK(bound > std::numeric_limits<uint32_t>::max());
  Uint128 product = Uint128{next()} * bound;
  if (static_cast<uint64_t>(product) < bound) {
    const uint64_t threshold = (0 - bound) % bound;
    while (static_cast<uint64_t>(product) < threshold) product = Uint128{next()} * bound;
  }
  return static_cast<uint64_t>(product >> 64);
}

}  // namespace engram::engine

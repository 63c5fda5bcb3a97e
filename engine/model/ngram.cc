#include "engine/model/ngram.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <unordered_map>
#include <unordered_set>

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

uint64_t multiply_mod(uint64_t a, uint64_t b, uint64_t modulus) {
  return static_cast<uint64_t>(Uint128{a} * b % modulus);
}

uint64_t power_mod(uint64_t base, uint64_t exponent, uint64_t modulus) {
  uint64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result = multiply_mod(result, base, modulus);
    base = multiply_mod(base, base, modulus);
  }
  return result;
}

// Miller-Rabin; the first twelve primes as bases decide every n below 2^64 (Sorenson & Webster).
bool is_prime(uint64_t n) {
  constexpr std::array<uint64_t, 12> kBases = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
  if (n < 2) return false;
  for (const uint64_t p : kBases) {
    if (n % p == 0) return n == p;
  }
  uint64_t odd = n - 1;
  int twos = 0;
  for (; (odd & 1) == 0; odd >>= 1) ++twos;
  return std::all_of(kBases.begin(), kBases.end(), [&](uint64_t base) {
    uint64_t x = power_mod(base, odd, n);
    if (x == 1 || x == n - 1) return true;
    for (int i = 1; i < twos; ++i) {
      x = multiply_mod(x, x, n);
      if (x == n - 1) return true;
    }
    return false;
  });
}

// x mod p for x < 2^63. `reciprocal` is floor((2^64 - 1) / p), so the quotient is at most one
// short.
uint64_t remainder(uint64_t x, uint64_t p, uint64_t reciprocal) {
  const uint64_t quotient = static_cast<uint64_t>((Uint128{x} * reciprocal) >> 64);
  const uint64_t rest = x - quotient * p;
  return rest >= p ? rest - p : rest;
}

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

std::vector<int64_t> derive_multipliers(
    int64_t canonical_ids, int max_ngram, int layer, uint64_t seed) {
  ENGRAM_CHECK(canonical_ids > 0);
  const int64_t half = std::numeric_limits<int64_t>::max() / canonical_ids / 2;
  Pcg64 random(seed + 10007 * static_cast<uint64_t>(layer));
  std::vector<int64_t> multipliers;
  for (int k = 0; k < max_ngram; ++k) {
    const int64_t draw = static_cast<int64_t>(random.below(static_cast<uint64_t>(half)));
    multipliers.push_back(2 * draw + 1);
  }
  return multipliers;
}

std::vector<std::vector<int64_t>> derive_moduli(const EngramConfig& config) {
  std::unordered_set<int64_t> used;
  // All primes from a size up to the last one drawn from it are used; a later draw starts there.
  std::unordered_map<int64_t, int64_t> last_drawn;
  std::vector<std::vector<int64_t>> moduli(config.layer_ids.size());
  for (std::vector<int64_t>& layer : moduli) {
    for (const int64_t size : config.vocab_size) {
      int64_t& p = last_drawn.try_emplace(size, size - 1).first->second;
      for (int head = 0; head < config.n_heads; ++head) {
        do {
          ++p;
        } while (!is_prime(static_cast<uint64_t>(p)) || used.count(p) != 0);
        used.insert(p);
        layer.push_back(p);
      }
    }
  }
  return moduli;
}

std::vector<memory::TableGeometry> derive_geometries(
    const EngramConfig& config, memory::RowCodec codec) {
  const std::vector<std::vector<int64_t>> moduli = derive_moduli(config);
  std::vector<memory::TableGeometry> geometries;
  for (size_t i = 0; i < config.layer_ids.size(); ++i) {
    memory::TableGeometry& g = geometries.emplace_back();
    g.layer = config.layer_ids[i];
    g.multipliers = derive_multipliers(
        config.compressed_vocab_size, config.max_ngram_size, g.layer, config.seed);
    for (int order = 2; order <= config.max_ngram_size; ++order) g.orders.push_back(order);
    g.moduli = moduli[i];
    for (const int64_t modulus : g.moduli) {
      g.offsets.push_back(g.rows);
      g.rows += modulus;
    }
    g.heads = config.n_heads;
    g.row_width = config.head_dim;
    g.codec = codec;
  }
  return geometries;
}

void hash_rows(
    const memory::TableGeometry& geometry,
    std::span<const int32_t> canonical,
    int32_t pad,
    int64_t begin,
    int64_t end,
    int64_t* rows) {
  ENGRAM_CHECK(begin >= 0);
  ENGRAM_CHECK(end <= static_cast<int64_t>(canonical.size()));
  const int64_t columns = geometry.columns();
  const int64_t orders = static_cast<int64_t>(geometry.multipliers.size());
  ENGRAM_CHECK(columns == (orders - 1) * geometry.heads);
  // A block of positions at a time, so that one division per column serves them all.
  constexpr int64_t kBlock = 64;
  std::array<uint64_t, kBlock> mixes;
  for (; begin < end; begin += kBlock, rows += kBlock * columns) {
    const int64_t count = std::min(kBlock, end - begin);
    mixes.fill(0);
    for (int64_t back = 0; back < orders; ++back) {
      const uint64_t multiplier = static_cast<uint64_t>(geometry.multipliers[back]);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = begin + i - back;
        const int32_t id = at < 0 ? pad : canonical[at];
        mixes[i] ^= static_cast<uint64_t>(id) * multiplier;
      }
      if (back == 0) continue;
      const int64_t first = (back - 1) * geometry.heads;
      for (int64_t c = first; c < first + geometry.heads; ++c) {
        const uint64_t modulus = static_cast<uint64_t>(geometry.moduli[c]);
        const uint64_t reciprocal = ~uint64_t{0} / modulus;
        const int64_t offset = geometry.offsets[c];
        for (int64_t i = 0; i < count; ++i) {
          rows[i * columns + c] =
              offset + static_cast<int64_t>(remainder(mixes[i], modulus, reciprocal));
        }
      }
    }
  }
}

}  // namespace engram::engine

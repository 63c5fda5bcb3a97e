#include "engine/model/primes.h"

#include <algorithm>
#include <array>

namespace engram::engine {
namespace {

__extension__ using Uint128 = unsigned __int128;

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

}  // namespace

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

}  // namespace engram::engine

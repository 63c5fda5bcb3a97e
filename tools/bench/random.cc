#include "tools/bench/random.h"

#include <cmath>

#include "memory/base/status.h"

namespace engram::tools::bench {
namespace {

// The finaliser of SplitMix64: nearby seeds and streams give unrelated engines.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

Random::Random(uint64_t seed, uint64_t stream) : engine_(mix(mix(seed) ^ stream)) {}

double Random::uniform() {
  return static_cast<double>(bits() >> 11) * 0x1p-53;
}

uint64_t Random::below(uint64_t end) {
  ENGRAM_CHECK(end > 0);
  // The first 2^64 mod end values would make some remainders likelier.
  const uint64_t refused = (0 - end) % end;
  uint64_t value = bits();
  while (value < refused) value = bits();
  return value % end;
}

double Random::exponential() {
  return -std::log1p(-uniform());
}

double Random::normal() {
  double x = 0;
  double square = 0;
  do {
    x = 2 * uniform() - 1;
    const double y = 2 * uniform() - 1;
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  return x * std::sqrt(-2 * std::log(square) / square);
}

double Random::gamma(double shape) {
  ENGRAM_CHECK(shape > 0 && std::isfinite(shape));
  if (shape == 1) return exponential();
  if (shape < 1) {
    const double larger = gamma(shape + 1);
    return larger * std::pow(1 - uniform(), 1 / shape);
  }
  const double d = shape - 1. / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double z = normal();
    const double root = 1 + c * z;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(1 - uniform()) < 0.5 * z * z + d * (1 - v + std::log(v))) return d * v;
  }
}

}  // namespace engram::tools::bench

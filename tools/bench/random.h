// Seeded random numbers that are the same with every compiler and standard library: the engine's
// bits are fixed by the C++ standard, its distributions are not, so these are our own. (Logarithms
// and powers are those of libm and may differ by a rounding between two of them.) One thread.
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace engram::tools::bench {

class Random {
 public:
  // Streams of one seed with different `stream` are independent: 0 for arrivals, 1 for lengths, ...
  Random(uint64_t seed, uint64_t stream);

  uint64_t bits() { return engine_(); }
  double uniform();              // in [0, 1), 53 bits
  uint64_t below(uint64_t end);  // in [0, end), without bias; end > 0
  double exponential();          // mean 1, by inversion
  double normal();               // mean 0, variance 1, by Marsaglia's polar method
  // Mean `shape`, variance `shape`. shape > 0 and finite. Marsaglia and Tsang, "A simple method for
  // generating gamma variables" (2000); below 1 by a power of a uniform number (their section 6).
  double gamma(double shape);

  // Fisher and Yates.
  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace engram::tools::bench

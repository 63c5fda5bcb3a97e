// NumPy's default_rng(seed), as far as hash constants need it: SeedSequence, PCG64 and
// integers(0, bound). Pure functions.
#pragma once

#include <cstdint>
#include <vector>

namespace engram::engine {

__extension__ using Uint128 = unsigned __int128;

class Pcg64 {
 public:
  explicit Pcg64(uint64_t seed);
  uint64_t next();                 // uniform 64 bits
  uint64_t below(uint64_t bound);  // uniform in [0, bound), bound > 2^32 (Lemire, as NumPy)
  static std::vector<uint64_t> seed_words(uint64_t seed);  // 4 words v0..v3

 private:
  Uint128 state_ = 0;
  Uint128 increment_ = 0;
};

}  // namespace engram::engine

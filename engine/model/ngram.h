// From token ids to table rows: hash constants and the hash. Pure functions, no device.
// Source: Engram paper (arXiv 2601.07372) and its published demo code.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model/config.h"
#include "memory/base/status.h"
#include "memory/table/geometry.h"

namespace engram::engine {

__extension__ using Uint128 = unsigned __int128;

// NumPy's default_rng(seed), as far as it is needed: SeedSequence, PCG64, integers(0, bound).
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

// [N] odd multipliers of one layer; canonical_ids * multiplier stays below 2^63.
std::vector<int64_t> derive_multipliers(
    int64_t canonical_ids, int max_ngram, int layer, uint64_t seed);

// moduli[i][c]: distinct primes over all layers, drawn in the order of layer_ids.
std::vector<std::vector<int64_t>> derive_moduli(const EngramConfig& config);

// One geometry per engram layer, in the order of config.layer_ids; codec as given.
std::vector<memory::TableGeometry> derive_geometries(
    const EngramConfig& config, memory::RowCodec codec);

// Raw ids to canonical ids. Ids past the map's end count as the pad.
struct TokenMap {
  std::vector<int32_t> canonical;  // [len(tokenizer)]
  int32_t pad = 0;                 // canonical id of the pad

  int32_t of(int32_t raw) const {
    return static_cast<size_t>(raw) < canonical.size() ? canonical[static_cast<size_t>(raw)] : pad;
  }
};

// rows[t * H + c] of the positions [begin, end) of a sequence, offsets included.
//   canonical  canonical ids of the whole sequence from position 0, at least `end` of them;
//              positions before 0 read as the pad
//   rows       [(end - begin) * H]
void hash_rows(
    const memory::TableGeometry& geometry,
    std::span<const int32_t> canonical,
    int32_t pad,
    int64_t begin,
    int64_t end,
    int64_t* rows);

}  // namespace engram::engine

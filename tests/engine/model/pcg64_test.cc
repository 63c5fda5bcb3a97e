// The generator equals NumPy's.
#include "engine/model/pcg64.h"

#include <catch2/catch.hpp>

namespace engram::engine {
namespace {

TEST_CASE("PCG64 gives NumPy's words and draws", "[ngram]") {
  struct Case {
    uint64_t seed;
    std::vector<uint64_t> words;
    std::vector<uint64_t> draws;
  };
  const std::vector<Case> cases = {
      {0,
       {0xdb2cd7e7b0f478be, 0xabf4641a2c71ba49, 0x20c6ed6d9d7b8d41, 0x2c4099de223c39d4},
       {11749869230777074271u, 4976686463289251617u, 755828109848996024u}},
      {10007,
       {0x77d32a348ad70d07, 0x993ed609b84a4fa5, 0xd5f972dec8698e49, 0x7d79ebaebcf148de},
       {15187255322829266483u, 959186003677246517u, 7126631698937927467u}},
      {140098,
       {0xdb5869feeeccf2be, 0xad465727d9cf3645, 0x5155d26378b6bab4, 0x9f9e49df66ff1c85},
       {13420388419549774097u, 10208617735032736636u, 6128116274024149523u}},
      {150105,
       {0xd81b63c1c152e155, 0x4f78d1f67f67762a, 0x111ccf563d129a55, 0x8b8977b73877171a},
       {5731302735937527132u, 11102341020473763372u, 10687872321234204531u}},
      // Two limbs of entropy.
      {(uint64_t{1} << 40) + 5,
       {0xdae41755e08a170b, 0x8415abe87ecdcb2c, 0x2525c5b44b9118d0, 0x42c2793f3392bed3},
       {87427594128977387u, 6872972437549564694u, 10832470946844950135u}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.seed);
    CHECK(Pcg64::seed_words(c.seed) == c.words);
    Pcg64 random(c.seed);
    for (const uint64_t draw : c.draws) CHECK(random.next() == draw);
  }
}

TEST_CASE("bounded draws equal NumPy's, redraws included", "[ngram]") {
  // Just above half of 2^64 nearly half of all draws are redrawn.
  Pcg64 random(7);
  for (const uint64_t expected :
       {uint64_t{5765488047046174020}, uint64_t{8275336682942969161}, uint64_t{7154437704795913392},
        uint64_t{2077169698657866656}, uint64_t{2768545318656780450}}) {
    CHECK(random.below((uint64_t{1} << 63) - 1) == expected);
  }
  Pcg64 narrow(7);
  for (const uint64_t expected :
       {uint64_t{2882744023523087012}, uint64_t{4137668341471484583}, uint64_t{3577218852397956698},
        uint64_t{4028554210483014095}, uint64_t{3787247614991040953}}) {
    CHECK(narrow.below((uint64_t{1} << 62) + 3) == expected);
  }
}

}  // namespace
}  // namespace engram::engine

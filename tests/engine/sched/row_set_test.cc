#include "engine/sched/row_set.h"

#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <vector>

namespace engram::engine {

TEST_CASE("row set: holds what was inserted, once", "[row_set]") {
  for (const uint64_t seed : {1u, 2u, 3u}) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    RowSet set;
    std::set<int64_t> expected;
    CHECK_FALSE(set.contains(0));
    for (int turn = 0; turn < 50; ++turn) {
      const int64_t bits = static_cast<int64_t>(random() % 3) << 48;
      std::vector<int64_t> keys(random() % 200);
      for (int64_t& key : keys) key = static_cast<int64_t>(random() % 4000);
      set.insert(keys, bits);
      for (const int64_t key : keys) expected.insert(key | bits);
      REQUIRE(set.size() == static_cast<int64_t>(expected.size()));
    }
    for (int64_t table = 0; table < 4; ++table) {
      for (int64_t row = 0; row < 4100; ++row) {
        const int64_t key = (table << 48) | row;
        REQUIRE(set.contains(key) == expected.contains(key));
      }
    }
  }
}

}  // namespace engram::engine

// The cache against a map that forgets nothing, and one set against a clock written for clarity.
#include "memory/table/row_cache.h"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <vector>

namespace engram::memory {
namespace {

constexpr int64_t kWays = RowCache::kWays;

// Bytes of a row that no other row has.
void write_row(int64_t row, int64_t row_bytes, uint8_t* to) {
  std::mt19937_64 random(static_cast<uint64_t>(row));
  for (int64_t i = 0; i < row_bytes; ++i) to[i] = static_cast<uint8_t>(random());
}

bool holds_row(const RowCache& cache, int64_t slot, int64_t row) {
  std::vector<uint8_t> expected(static_cast<size_t>(cache.row_bytes()));
  write_row(row, cache.row_bytes(), expected.data());
  return std::memcmp(cache.data() + slot * cache.row_bytes(), expected.data(), expected.size()) ==
         0;
}

RowCache make_cache(int64_t row_bytes, int64_t sets, int64_t spare) {
  const int64_t budget = sets * (kWays * row_bytes + 65);
  Result<RowCache> cache = RowCache::make("test cache", row_bytes, budget, spare);
  REQUIRE(cache.ok());
  REQUIRE(cache.value().capacity() == sets * kWays);
  return std::move(cache).value();
}

void insert(RowCache& cache, int64_t row) {
  const int64_t spare = cache.capacity();
  write_row(row, cache.row_bytes(), cache.data() + spare * cache.row_bytes());
  cache.insert(row, spare);
}

TEST_CASE("what is found is what was inserted", "[row_cache]") {
  constexpr uint32_t kSeed = 71;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  for (const int64_t row_bytes : {1, 8, 66, 264, 320}) {
    for (const int64_t sets : {1, 3, 64, 1000}) {
      CAPTURE(row_bytes, sets);
      RowCache cache = make_cache(row_bytes, sets, 2);
      std::set<int64_t> inserted;
      int64_t hits = 0;
      int64_t wrong = 0;
      for (int step = 0; step < 20000; ++step) {
        // Half of the steps in a few rows, the others anywhere: ids of a large table.
        const int64_t range = step % 2 == 0 ? 4 * sets : int64_t{1} << 40;
        const int64_t row = static_cast<int64_t>(random() % static_cast<uint64_t>(range));
        const int64_t slot = cache.find(row);
        if (slot < 0) {
          insert(cache, row);
          inserted.insert(row);
          continue;
        }
        ++hits;
        if (inserted.count(row) == 0 || slot >= cache.capacity()) ++wrong;
        if (!holds_row(cache, slot, row)) ++wrong;
      }
      CHECK(wrong == 0);
      const RowCacheStats stats = cache.stats();
      CHECK(stats.hits == hits);
      CHECK(stats.hits + stats.misses == 20000);
      CHECK(stats.inserted == stats.misses);
      CHECK(stats.inserted - stats.evicted <= cache.capacity());
      // Half of the steps are in rows of which 4 of 8 ways keep one: most of those are hits.
      CHECK(hits > 3000);
      int64_t there = 0;
      for (const int64_t row : inserted) there += cache.find(row) >= 0 ? 1 : 0;
      CHECK(there == stats.inserted - stats.evicted);
    }
  }
}

// One set by the textbook: a ring of ways, a hand, a mark per way.
class ClockModel {
 public:
  bool find(int64_t row) {
    for (Way& way : ring_) {
      if (way.row != row) continue;
      way.found = true;
      return true;
    }
    return false;
  }
  void insert(int64_t row) {
    while (ring_[hand_].found) {
      ring_[hand_].found = false;
      hand_ = (hand_ + 1) % ring_.size();
    }
    ring_[hand_] = {row, false};
    hand_ = (hand_ + 1) % ring_.size();
  }

 private:
  struct Way {
    int64_t row = -1;
    bool found = false;
  };
  std::array<Way, kWays> ring_;
  size_t hand_ = 0;
};

TEST_CASE("a set evicts by the clock", "[row_cache]") {
  constexpr uint32_t kSeed = 72;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  for (const uint64_t rows : {8u, 9u, 12u, 40u}) {
    CAPTURE(rows);
    RowCache cache = make_cache(16, 1, 1);
    ClockModel model;
    int64_t wrong = 0;
    for (int step = 0; step < 5000; ++step) {
      // The square makes low rows come often.
      const uint64_t draw = random() % (rows * rows);
      const int64_t row = static_cast<int64_t>(rows - 1 - static_cast<uint64_t>(std::sqrt(draw)));
      const bool found = model.find(row);
      if ((cache.find(row) >= 0) != found) ++wrong;
      if (found) continue;
      model.insert(row);
      insert(cache, row);
    }
    CHECK(wrong == 0);
    if (rows == 8) CHECK(cache.stats().evicted == 0);
    if (rows > 8) CHECK(cache.stats().evicted > 0);
  }
}

TEST_CASE("rows in use outlive a scan", "[row_cache]") {
  RowCache cache = make_cache(16, 4, 1);
  constexpr int64_t kUsed = 4;
  for (int64_t row = 0; row < kUsed; ++row) insert(cache, row);
  int64_t lost = 0;
  for (int64_t scan = 1000; scan < 2000; ++scan) {
    for (int64_t row = 0; row < kUsed; ++row) lost += cache.find(row) < 0 ? 1 : 0;
    insert(cache, scan);
  }
  CHECK(lost == 0);
}

TEST_CASE("a row that is there is not inserted twice", "[row_cache]") {
  RowCache cache = make_cache(16, 1, 1);
  for (int i = 0; i < 20; ++i) insert(cache, 5);
  CHECK(cache.stats().inserted == 1);
  CHECK(cache.stats().evicted == 0);
  CHECK(holds_row(cache, cache.find(5), 5));
}

TEST_CASE("a cache takes what it was given and no more", "[row_cache]") {
  for (const int64_t budget : {int64_t{0}, int64_t{2200}, int64_t{1} << 20, int64_t{9} << 20}) {
    CAPTURE(budget);
    const RowCache cache = RowCache::make("test cache", 264, budget, 0).value();
    CHECK(cache.memory_bytes() <= budget);
    CHECK(cache.memory_bytes() + 8 * 264 + 65 > budget);
    CHECK(
        cache.capacity() == 8 * static_cast<int64_t>(budget / (8 * RowCache::bytes_per_row(264))));
    CHECK(cache.slots() == cache.capacity());
  }
  const Result<RowCache> huge = RowCache::make("test cache", 264, int64_t{1} << 45, 0);
  REQUIRE_FALSE(huge.ok());
  CHECK(huge.status().code() == Code::kResourceExhausted);
  CHECK_THAT(huge.status().message(), Catch::StartsWith("test cache"));
}

TEST_CASE("a cache of nothing finds nothing and has spare slots", "[row_cache]") {
  RowCache cache = RowCache::make("test cache", 32, 0, 3).value();
  CHECK(cache.capacity() == 0);
  CHECK(cache.slots() == 3);
  insert(cache, 9);
  CHECK(cache.find(9) == -1);
  CHECK(cache.stats().inserted == 0);
}

}  // namespace
}  // namespace engram::memory

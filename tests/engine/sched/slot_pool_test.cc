// Staging slots: each once, in runs where there are runs.
#include "engine/sched/slot_pool.h"

#include <catch2/catch.hpp>
#include <random>
#include <set>

namespace engram::engine {
namespace {

TEST_CASE("slots are given out one after another, round and round") {
  SlotPool pool(4);
  CHECK(pool.take() == 0);
  CHECK(pool.take() == 1);
  pool.give_back(0);
  pool.give_back(1);
  CHECK(pool.take() == 2);
  CHECK(pool.take() == 3);
  CHECK(pool.take() == 0);
  CHECK(pool.take() == 1);
  CHECK(pool.free() == 0);
}

TEST_CASE("a run is found wherever it is, and its absence is no error") {
  SlotPool pool(8);
  for (int i = 0; i < 8; ++i) pool.take();
  for (const int slot : {1, 3, 4, 5, 7}) pool.give_back(slot);
  pool.seek_run(3);
  CHECK(pool.take() == 3);
  CHECK(pool.take() == 4);
  CHECK(pool.take() == 5);
  pool.seek_run(2);  // 7 and 1 do not follow each other
  CHECK(pool.take() == 7);
  CHECK(pool.take() == 1);
}

TEST_CASE("the lowest run is taken, of slots set apart as of others") {
  SlotPool pool(8, 4);
  CHECK(pool.take_run(3) == 0);
  CHECK(pool.take_run(3) == 3);
  CHECK(pool.take_run(3) == -1);
  CHECK(pool.free() == 2);
  pool.give_back(1);
  pool.give_back(2);
  CHECK(pool.take_run(2) == 1);
  CHECK(pool.take_apart() == 6);  // none is left of those
  CHECK(pool.take() == 7);
  CHECK(pool.take_run(1) == -1);
  for (const int slot : {0, 3}) pool.give_back(slot);
  CHECK(pool.take_apart() == 0);
  CHECK(pool.take_apart() == 3);
  CHECK(pool.free() == 0);
}

TEST_CASE("no slot is given out twice") {
  std::mt19937_64 random(3);
  SlotPool pool(37, 9);
  std::set<int32_t> held;
  for (int step = 0; step < 5000; ++step) {
    if (random() % 4 == 0) pool.seek_run(static_cast<int64_t>(random() % 12) + 1);
    if (random() % 5 == 0) {
      const int64_t count = static_cast<int64_t>(random() % 6) + 1;
      const int32_t first = pool.take_run(count);
      for (int32_t slot = first; first >= 0 && slot < first + count; ++slot) {
        REQUIRE(held.insert(slot).second);
      }
    } else if (pool.free() > 0 && random() % 2 == 0) {
      REQUIRE(held.insert(random() % 2 == 0 ? pool.take() : pool.take_apart()).second);
    } else if (!held.empty()) {
      auto at = held.begin();
      std::advance(at, random() % held.size());
      pool.give_back(*at);
      held.erase(at);
    }
    REQUIRE(pool.free() == 37 - static_cast<int64_t>(held.size()));
  }
}

}  // namespace
}  // namespace engram::engine

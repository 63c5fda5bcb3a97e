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

TEST_CASE("no slot is given out twice") {
  std::mt19937_64 random(3);
  SlotPool pool(37);
  std::set<int32_t> held;
  for (int step = 0; step < 5000; ++step) {
    if (random() % 4 == 0) pool.seek_run(static_cast<int64_t>(random() % 12) + 1);
    if (pool.free() > 0 && random() % 2 == 0) {
      REQUIRE(held.insert(pool.take()).second);
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

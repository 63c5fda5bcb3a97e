// Each send of a plan is taken once, in order, whichever threads ask.
#include "tools/bench/turns.h"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

namespace engram::tools::bench {
namespace {

Turns<int> counted(int count) {
  return Turns<int>([count, made = 0]() mutable -> std::optional<Turns<int>::Item> {
    if (made == count) return std::nullopt;
    const int number = made++;
    return Turns<int>::Item{number, 0.5 * number};
  });
}

}  // namespace

TEST_CASE("turns: in the order of the plan, and none after the last", "[bench]") {
  Turns<int> turns = counted(3);
  for (int i = 0; i < 3; ++i) {
    const auto turn = turns.next();
    REQUIRE(turn);
    CHECK(turn->at_s == 0.5 * i);
    CHECK(turns.next()->number == turn->number);
    turns.make_ahead();
    int told = -1;
    CHECK(turns.take(*turn, [&](int what) { told = what; }) == i);
    CHECK(told == i);
    // Whoever is late for it gets nothing.
    CHECK_FALSE(turns.take(*turn, [&](int) { told = -2; }));
    CHECK(told == i);
  }
  CHECK_FALSE(turns.next());
  CHECK_FALSE(counted(0).next());
}

TEST_CASE("turns: threads share them, each is taken once", "[bench]") {
  constexpr int kCount = 20000;
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::atomic<int> making{0};
  std::atomic<int> together{0};
  int made = 0;
  Turns<int> turns([&]() -> std::optional<Turns<int>::Item> {
    if (making.fetch_add(1) != 0) ++together;
    std::optional<Turns<int>::Item> item;
    if (made < kCount) item = {made, 1e-3 * made};
    ++made;
    --making;
    return item;
  });
  std::vector<int> order;  // under the lock of the turns
  std::vector<std::vector<int>> taken(3);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(seed + i);
      while (const auto turn = turns.next()) {
        if (random() % 8 == 0) std::this_thread::yield();
        const auto what = turns.take(*turn, [&](int number) { order.push_back(number); });
        if (what) taken[i].push_back(*what);
        if (random() % 4 != 0) turns.make_ahead();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(together == 0);
  size_t all = 0;
  for (const std::vector<int>& of_thread : taken) {
    all += of_thread.size();
    CHECK(std::is_sorted(of_thread.begin(), of_thread.end()));
  }
  CHECK(all == kCount);
  REQUIRE(order.size() == kCount);
  for (int i = 0; i < kCount; ++i) REQUIRE(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("turns: one thread that is held up does not hold up the next turn", "[bench]") {
  Turns<int> turns = counted(2);
  const auto first = turns.next();
  turns.make_ahead();
  std::atomic<bool> go_on{false};
  std::thread busy([&] {
    turns.take(*first, [](int) {});
    while (!go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  std::optional<Turns<int>::Turn> second;
  while (!(second = turns.next()) || second->number == first->number) std::this_thread::yield();
  CHECK(turns.take(*second, [](int) {}) == 1);
  go_on = true;
  busy.join();
}

}  // namespace engram::tools::bench

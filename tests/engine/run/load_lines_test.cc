#include "engine/run/load_lines.h"

#include <catch2/catch.hpp>
#include <vector>

namespace engram::engine {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

LoadLines::TimePoint at(int ms) {
  return LoadLines::TimePoint() + std::chrono::milliseconds(5000 + ms);
}

TEST_CASE("load lines: one after a second, then every five, and one at the end", "[load_lines]") {
  LoadLines lines("weights", at(0));
  std::vector<int> told;
  for (int ms = 0; ms < 20000; ms += 100) {
    if (!lines.update(ms * (kGiB / 1000), 20 * kGiB, at(ms)).empty()) told.push_back(ms);
  }
  CHECK(told == std::vector<int>{1000, 6000, 11000, 16000});
  CHECK(lines.finish(at(20000)).empty());  // not all of it
  CHECK(lines.update(20 * kGiB, 20 * kGiB, at(25000)).empty());
  CHECK(lines.finish(at(25000)) == "loaded weights: 20.00 GiB in 25.00 s, 0.86 GB/s");
}

TEST_CASE("load lines: a line says how far it is, and how fast", "[load_lines]") {
  LoadLines lines("n-gram tables", at(0));
  CHECK(lines.begin(8 * kGiB) == "taking memory for n-gram tables: 8.00 GiB");
  CHECK(lines.begin(kGiB - 1).empty());
  CHECK(
      lines.update(3 * kGiB, 8 * kGiB, at(2000)) ==
      "loading n-gram tables: 3.00 GiB of 8.00 GiB, 1.61 GB/s");
}

TEST_CASE("load lines: what is there at once has one line, nothing has none", "[load_lines]") {
  LoadLines lines("weights", at(0));
  CHECK(lines.finish(at(1)).empty());
  for (int64_t done = 1; done <= 16; ++done) {
    CHECK(lines.update(done << 20, 16 << 20, at(static_cast<int>(done))).empty());
  }
  CHECK(lines.finish(at(16)) == "loaded weights: 16.0 MiB in 0.02 s, 1.05 GB/s");
  CHECK(lines.update(0, 0, at(9000)).empty());
  CHECK(lines.finish(at(9000)).empty());
  // A clock that stands still is no reason to divide by zero.
  lines.update(1 << 20, 1 << 20, at(0));
  CHECK(lines.finish(at(0)) == "loaded weights: 1.0 MiB in 0.00 s, 1048.58 GB/s");
}

}  // namespace
}  // namespace engram::engine

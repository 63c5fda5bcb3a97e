// What kernels may rely on: true of a GPU, and of the emulation that stands in for it.
#include <catch2/catch.hpp>
#include <numeric>
#include <random>

#include "tests/support/cuda_emulation_test/kernels.h"

namespace engram::testing {
namespace {

TEST_CASE("a block sums its row through shuffles and shared memory", "[cuda]") {
  if (!can_run_kernels()) return;
  std::mt19937_64 random(3);
  for (const int threads : {32, 128, 1024}) {
    for (const int64_t cols : {1, 31, 1000}) {
      CAPTURE(threads, cols);
      const int64_t rows = 5;
      std::vector<float> x(static_cast<size_t>(rows * cols));
      for (float& value : x) value = static_cast<float>(random() % 64);  // sums are exact
      std::vector<float> wanted(static_cast<size_t>(rows));
      for (size_t i = 0; i < x.size(); ++i) wanted[i / static_cast<size_t>(cols)] += x[i];
      CHECK(row_sums(x, rows, cols, threads) == wanted);
    }
  }
}

TEST_CASE("a barrier makes the block's writes visible", "[cuda]") {
  if (!can_run_kernels()) return;
  const std::vector<int> out = reversed(3, 96, true);
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == 95 - static_cast<int>(i % 96));
}

TEST_CASE("atomics of several blocks lose nothing", "[cuda]") {
  if (!can_run_kernels()) return;
  std::mt19937_64 random(4);
  std::vector<unsigned> values(10007);
  for (unsigned& value : values) value = static_cast<unsigned>(random() % 13);
  std::vector<unsigned> wanted(13);
  for (const unsigned value : values) ++wanted[value];
  CHECK(histogram(values, 13) == wanted);
}

TEST_CASE("warp operations exchange what the programming guide says", "[cuda]") {
  if (!can_run_kernels()) return;
  const std::vector<int> out = warp_operations();
  for (int lane = 0; lane < 32; ++lane) {
    CAPTURE(lane);
    const int group = lane / 8 * 8;
    const int* results = out.data() + lane * 7;
    CHECK(results[0] == 10 * (group + 3));
    CHECK(results[1] == 10 * (lane - 2 < group ? lane : lane - 2));
    CHECK(results[2] == 10 * (lane + 2 >= group + 8 ? lane : lane + 2));
    CHECK(results[3] == 10 * (lane ^ 5));
    CHECK(static_cast<unsigned>(results[4]) == 0xaaaaaaaau);
    CHECK(results[5] == 1);
    CHECK(results[6] == 0);
  }
}

TEST_CASE("a kernel may wait for a flag that another stream sets", "[cuda]") {
  if (!can_run_kernels()) return;
  CHECK(value_behind_flag(4711) == 4711);
}

TEST_CASE("events order two streams", "[cuda]") {
  if (!can_run_kernels()) return;
  std::vector<int> wanted(60);
  std::iota(wanted.begin(), wanted.end(), 0);
  CHECK(ordered_by_events(30) == wanted);
}

TEST_CASE("every thread of a grid runs once and knows where it is", "[cuda]") {
  if (!can_run_kernels()) return;
  const std::vector<unsigned> out = ranks(3, 4, 5);
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == i);
}

}  // namespace
}  // namespace engram::testing

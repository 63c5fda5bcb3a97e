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

// Small integers: products and sums are exact in any order.
TEST_CASE("a warp multiplies small matrices", "[cuda]") {
  if (!can_run_kernels()) return;
  std::mt19937_64 random(6);
  std::vector<float> a(16 * 16);
  std::vector<float> b(16 * 8);
  for (float& value : a) value = static_cast<float>(random() % 256) - 128.f;
  for (float& value : b) value = static_cast<float>(random() % 256) - 128.f;
  std::vector<float> wanted(16 * 8);
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      for (size_t k = 0; k < 16; ++k) wanted[i * 8 + j] += a[i * 16 + k] * b[k * 8 + j];
    }
  }
  CHECK(matrix_product(a, b, true) == wanted);
  CHECK(matrix_product(a, b, false) == wanted);
}

TEST_CASE("asynchronous copies arrive by groups", "[cuda]") {
  if (!can_run_kernels()) return;
  std::vector<int> in(256);
  std::iota(in.begin(), in.end(), 1);
  std::vector<int> wanted = in;
  for (size_t i = 128; i < 256; ++i) wanted[i] = i / 4 % 2 == 0 ? in[i] : 0;
  CHECK(asynchronous_copies(in, true) == wanted);
}

}  // namespace
}  // namespace engram::testing

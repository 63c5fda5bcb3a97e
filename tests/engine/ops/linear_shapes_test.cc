// Linear layers of every backend: all dtypes, few and many rows, aligned and odd addresses.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <tuple>

#include "tests/support/op_rig.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 20250307;
constexpr DType kWeights[] = {DType::kBf16, DType::kF16, DType::kF32};

// What goes in and what comes out.
struct Types {
  DType x;
  DType y;
};
constexpr Types kTypes[] = {
    {DType::kF32, DType::kF32}, {DType::kBf16, DType::kBf16}, {DType::kBf16, DType::kF32}};

struct Shape {
  int64_t n;
  int64_t k;
};

// Above what f32 sums of a few thousand products lose, and below what inputs rounded to tf32 do. A
// bf16 result may be off by 2^-9 of its value for its own rounding, and by as much for the bias's.
double tolerance(DType y) {
  return y == DType::kF32 ? 1e-9 : 1.6e-5;
}

// y, in the middle of wider rows if `margin` is not zero, and the wider rows.
struct Output {
  View wide;
  View y;
};
Output make_output(OpRig& rig, DType dtype, int64_t rows, int64_t cols, int64_t margin) {
  const View wide = rig.filled(dtype, rows, cols + 2 * margin, 7.0);
  return {wide, wide.col_range(margin, cols)};
}

TEST_CASE("linear layers of all shapes match the float64 loop", "[ops][linear]") {
  constexpr Shape kShapes[] = {{1, 1},    {3, 7},     {16, 32},    {17, 72}, {64, 64},
                               {70, 300}, {33, 2056}, {129, 1000}, {5, 4100}};
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    for (const DType weight : kWeights) {
      OpRig rig(backend);
      for (const Shape shape : kShapes) {
        const Rows w = random_rows(random, weight, shape.n, shape.k, 1.0);
        const Rows bias = random_rows(random, DType::kF32, 1, shape.n, 1.0);
        const engine::Matrix matrix = rig.load(w, weight);
        const View bias_view = rig.put(bias, DType::kF32);
        int turn = 0;
        for (const int64_t tokens : {1, 2, 3, 5, 8, 9, 17, 40, 67}) {
          for (const Types types : kTypes) {
            const bool with_bias = ++turn % 2 == 0;
            CAPTURE(
                backend.name, backend.threads, backend.simd, memory::dtype_name(weight), shape.n,
                shape.k, tokens, memory::dtype_name(types.x), memory::dtype_name(types.y),
                with_bias);
            const Rows x = random_rows(random, types.x, tokens, shape.k, 1.0);
            const View y = rig.filled(types.y, tokens, shape.n, 7.0);
            rig.ops().linear(
                rig.stream(), rig.put(x, types.x), matrix, with_bias ? bias_view : View(), y);
            const Rows expected = reference::linear(x, w, with_bias ? bias : Rows());
            CHECK(reference::nmse(rig.get(y), expected) < tolerance(types.y));
          }
        }
      }
    }
  }
}

// Columns of wider rows: of x from `first` of `width`, which makes addresses and strides odd in
// every way an access of 16 bytes can fail.
TEST_CASE("linear layers read and write column ranges", "[ops][linear]") {
  struct Range {
    int64_t first;
    int64_t width;
    int64_t margin;  // of y
  };
  constexpr Range kRanges[] = {{8, 88, 8}, {8, 85, 8}, {1, 88, 3}, {4, 84, 4}, {2, 82, 1}};
  constexpr Shape kShape{37, 72};
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType weight : kWeights) {
      const Rows w = random_rows(random, weight, kShape.n, kShape.k, 1.0);
      const Rows bias = random_rows(random, DType::kF32, 1, kShape.n, 1.0);
      const engine::Matrix matrix = rig.load(w, weight);
      const View bias_view = rig.put(bias, DType::kF32);
      for (const Range range : kRanges) {
        for (const int64_t tokens : {1, 3, 8, 40}) {
          for (const Types types : kTypes) {
            CAPTURE(
                backend.name, backend.threads, backend.simd, memory::dtype_name(weight),
                range.first, range.width, range.margin, tokens, memory::dtype_name(types.x),
                memory::dtype_name(types.y));
            const Rows x = random_rows(random, types.x, tokens, range.width, 1.0);
            const Output out = make_output(rig, types.y, tokens, kShape.n, range.margin);
            rig.ops().linear(
                rig.stream(), rig.put(x, types.x).col_range(range.first, kShape.k), matrix,
                bias_view, out.y);
            const Rows expected = reference::linear(x.col_range(range.first, kShape.k), w, bias);
            CHECK(reference::nmse(rig.get(out.y), expected) < tolerance(types.y));
            const Rows wide = rig.get(out.wide);
            const std::vector<double> untouched(static_cast<size_t>(tokens * range.margin), 7.0);
            CHECK(wide.col_range(0, range.margin).values == untouched);
            CHECK(wide.col_range(range.margin + kShape.n, range.margin).values == untouched);
          }
        }
      }
    }
  }
}

// What decoding relies on: a sequence's result is the same alone and among seven others.
TEST_CASE("up to eight rows give the same bits in any company", "[ops][linear]") {
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType weight : kWeights) {
      for (const Shape shape : {Shape{45, 296}, Shape{19, 1000}, Shape{6, 331}}) {
        const engine::Matrix w =
            rig.load(random_rows(random, weight, shape.n, shape.k, 1.0), weight);
        const View bias = rig.put(random_rows(random, DType::kF32, 1, shape.n, 1.0), DType::kF32);
        for (const Types types : kTypes) {
          const View x = rig.put(random_rows(random, types.x, 8, shape.k, 1.0), types.x);
          const View all = rig.filled(types.y, 8, shape.n, 7.0);
          rig.ops().linear(rig.stream(), x, w, bias, all);
          for (const int64_t first : {0, 3}) {
            for (const int64_t tokens : {1, 2, 3, 4, 5}) {
              CAPTURE(
                  backend.name, backend.threads, backend.simd, memory::dtype_name(weight), shape.n,
                  shape.k, first, tokens, memory::dtype_name(types.x), memory::dtype_name(types.y));
              const View y = rig.filled(types.y, tokens, shape.n, 7.0);
              rig.ops().linear(rig.stream(), x.row_range(first, tokens), w, bias, y);
              CHECK(rig.bytes(y) == rig.bytes(all.row_range(first, tokens)));
            }
          }
        }
      }
    }
  }
}

// NaN and infinity go where they must, and nowhere else: not from what pads a row or a batch, and
// not past a weight of zero.
TEST_CASE("what is not finite stays in its row and column", "[ops][linear]") {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  constexpr Shape kShape{21, 104};
  constexpr int64_t kZeroRow = 5;  // of w: all zeros
  constexpr int64_t kInfRow = 7;   // of w: one infinity
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType weight : kWeights) {
      Rows w = random_rows(random, weight, kShape.n, kShape.k, 1.0);
      for (int64_t k = 0; k < kShape.k; ++k) w.at(kZeroRow, k) = 0.0;
      w.at(kInfRow, kShape.k - 1) = kInf;
      const engine::Matrix matrix = rig.load(w, weight);
      for (const int64_t tokens : {3, 8, 40}) {
        for (const Types types : kTypes) {
          CAPTURE(
              backend.name, backend.threads, backend.simd, memory::dtype_name(weight), tokens,
              memory::dtype_name(types.x), memory::dtype_name(types.y));
          Rows x = random_rows(random, types.x, tokens, kShape.k, 1.0);
          x.at(0, 2) = std::numeric_limits<double>::quiet_NaN();
          x.at(1, kShape.k - 1) = -kInf;
          const View y = rig.filled(types.y, tokens, kShape.n, 7.0);
          rig.ops().linear(rig.stream(), rig.put(x, types.x), matrix, View(), y);
          const Rows got = rig.get(y);
          const Rows expected = reference::linear(x, w, Rows());
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t n = 0; n < kShape.n; ++n) {
              CAPTURE(t, n, got.at(t, n), expected.at(t, n));
              if (std::isnan(expected.at(t, n))) {
                REQUIRE(std::isnan(got.at(t, n)));
              } else if (std::isinf(expected.at(t, n)) || n == kZeroRow) {
                REQUIRE(got.at(t, n) == expected.at(t, n));
              } else {
                REQUIRE(std::isfinite(got.at(t, n)));
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace engram::testing

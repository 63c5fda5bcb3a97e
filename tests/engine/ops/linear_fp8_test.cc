// Linear layers with f8_e4m3 weights, of every backend, against float64 loops over the exact values
// of the weights.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "tests/support/op_rig.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 20251122;

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
  int64_t scale_rows;
};

// As for other weights: what f32 sums lose, and the rounding of a bf16 result and its bias. Beyond
// a few tokens the CUDA backend rounds weights to bf16 for activations in bf16, by 2^-9 at most.
double tolerance(const Backend& backend, Types types, int64_t tokens) {
  const bool rounds = backend.name == "cuda" && types.x == DType::kBf16 && tokens > 8;
  if (types.y == DType::kF32) return rounds ? 8e-6 : 1e-9;
  return rounds ? 3.5e-5 : 1.6e-5;
}

TEST_CASE("fp8 linear layers of all shapes match the float64 loop", "[ops][linear][fp8]") {
  constexpr Shape kShapes[] = {{1, 1, 128},   {3, 7, 1},      {16, 32, 16},    {17, 72, 8},
                               {64, 64, 64},  {70, 300, 2},   {33, 2056, 32},  {129, 1000, 128},
                               {5, 4100, 4},  {260, 256, 64}, {192, 128, 128}, {96, 384, 32},
                               {40, 1024, 8}, {31, 129, 128}, {200, 65, 128}};
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const Shape shape : kShapes) {
      const Fp8Weight weight = random_fp8(random, shape.n, shape.k, shape.scale_rows);
      const Rows w = weight.values();
      const Rows bias = random_rows(random, DType::kF32, 1, shape.n, 1.0);
      const engine::Matrix matrix = rig.load(weight);
      const View bias_view = rig.put(bias, DType::kF32);
      int turn = 0;
      for (const int64_t tokens : {1, 2, 3, 5, 8, 9, 17, 33, 40, 67}) {
        for (const Types types : kTypes) {
          const bool with_bias = ++turn % 2 == 0;
          CAPTURE(
              backend.name, backend.threads, backend.simd, shape.n, shape.k, shape.scale_rows,
              tokens, memory::dtype_name(types.x), memory::dtype_name(types.y), with_bias);
          const Rows x = random_rows(random, types.x, tokens, shape.k, 1.0);
          const View y = rig.filled(types.y, tokens, shape.n, 7.0);
          rig.ops().linear(
              rig.stream(), rig.put(x, types.x), matrix, with_bias ? bias_view : View(), y);
          const Rows expected = reference::linear(x, w, with_bias ? bias : Rows());
          CHECK(reference::nmse(rig.get(y), expected) < tolerance(backend, types, tokens));
        }
      }
    }
  }
}

// One weight at a time, by rows of an identity: a sum would hide a wrong small one.
TEST_CASE("every finite e4m3 code is decoded exactly", "[ops][linear][fp8]") {
  constexpr int64_t kInputs = 32;
  Fp8Weight weight{.rows = 16, .cols = kInputs, .scale_rows = 1, .codes = {}, .scales = {}};
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) != 0x7f) weight.codes.push_back(static_cast<uint8_t>(code));
  }
  weight.codes.resize(static_cast<size_t>(weight.rows * kInputs), uint8_t{0x38});
  for (int n = 0; n < 16; ++n) weight.scales.push_back(std::ldexp(1.f, n - 12));
  const Rows w = weight.values();
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    const engine::Matrix matrix = rig.load(weight);
    for (const DType act : {DType::kF32, DType::kBf16}) {
      for (const int64_t tokens : {1, 2, 8, 32, 64}) {
        for (int64_t first = 0; first < kInputs; first += tokens) {
          Rows x(tokens, kInputs);
          for (int64_t t = 0; t < tokens && first + t < kInputs; ++t) x.at(t, first + t) = 1.0;
          const View y = rig.filled(DType::kF32, tokens, 16, 7.0);
          rig.ops().linear(rig.stream(), rig.put(x, act), matrix, View(), y);
          const Rows got = rig.get(y);
          for (int64_t t = 0; t < tokens && first + t < kInputs; ++t) {
            for (int64_t n = 0; n < 16; ++n) {
              CAPTURE(backend.name, backend.threads, backend.simd, tokens, first + t, n);
              REQUIRE(got.at(t, n) == w.at(n, first + t));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("fp8 linear layers read and write column ranges", "[ops][linear][fp8]") {
  struct Range {
    int64_t first;
    int64_t width;
    int64_t margin;  // of y
  };
  constexpr Range kRanges[] = {{8, 152, 8}, {1, 149, 3}, {4, 148, 4}};
  constexpr int64_t kRows = 37;
  constexpr int64_t kCols = 144;
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    const Fp8Weight weight = random_fp8(random, kRows, kCols, 32);
    const Rows w = weight.values();
    const Rows bias = random_rows(random, DType::kF32, 1, kRows, 1.0);
    const engine::Matrix matrix = rig.load(weight);
    const View bias_view = rig.put(bias, DType::kF32);
    for (const Range range : kRanges) {
      for (const int64_t tokens : {1, 3, 8, 40}) {
        for (const Types types : kTypes) {
          CAPTURE(
              backend.name, backend.threads, backend.simd, range.first, range.width, range.margin,
              tokens, memory::dtype_name(types.x), memory::dtype_name(types.y));
          const Rows x = random_rows(random, types.x, tokens, range.width, 1.0);
          const View wide = rig.filled(types.y, tokens, kRows + 2 * range.margin, 7.0);
          rig.ops().linear(
              rig.stream(), rig.put(x, types.x).col_range(range.first, kCols), matrix, bias_view,
              wide.col_range(range.margin, kRows));
          const Rows expected = reference::linear(x.col_range(range.first, kCols), w, bias);
          const Rows got = rig.get(wide);
          CHECK(
              reference::nmse(got.col_range(range.margin, kRows), expected) <
              tolerance(backend, types, tokens));
          const std::vector<double> untouched(static_cast<size_t>(tokens * range.margin), 7.0);
          CHECK(got.col_range(0, range.margin).values == untouched);
          CHECK(got.col_range(range.margin + kRows, range.margin).values == untouched);
        }
      }
    }
  }
}

// What decoding relies on everywhere: on the CPU for any number of rows, on a GPU for those that
// one kernel takes.
TEST_CASE("rows times fp8 weights give the same bits in any company", "[ops][linear][fp8]") {
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const Shape shape : {Shape{45, 296, 8}, Shape{130, 1024, 64}, Shape{6, 331, 128}}) {
      const engine::Matrix w = rig.load(random_fp8(random, shape.n, shape.k, shape.scale_rows));
      const View bias = rig.put(random_rows(random, DType::kF32, 1, shape.n, 1.0), DType::kF32);
      for (const Types types : kTypes) {
        const bool tensor_cores = types.x == DType::kBf16 && shape.k % 16 == 0;
        const int64_t most = backend.name != "cuda" ? 80 : tensor_cores ? 32 : 8;
        const View x = rig.put(random_rows(random, types.x, most, shape.k, 1.0), types.x);
        const View all = rig.filled(types.y, most, shape.n, 7.0);
        rig.ops().linear(rig.stream(), x, w, bias, all);
        for (const int64_t first : {0, 3}) {
          for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 32, 33, 60}) {
            if (first + tokens > most) continue;
            CAPTURE(
                backend.name, backend.threads, backend.simd, shape.n, shape.k, first, tokens,
                memory::dtype_name(types.x), memory::dtype_name(types.y));
            const View y = rig.filled(types.y, tokens, shape.n, 7.0);
            rig.ops().linear(rig.stream(), x.row_range(first, tokens), w, bias, y);
            CHECK(rig.bytes(y) == rig.bytes(all.row_range(first, tokens)));
          }
        }
      }
    }
  }
}

// Rows loaded in pieces that begin and end anywhere.
TEST_CASE("codes can be loaded in pieces", "[ops][linear][fp8]") {
  constexpr int64_t kRows = 131;
  constexpr int64_t kCols = 77;
  std::mt19937_64 random(kSeed);
  CAPTURE(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    Fp8Weight weight = random_fp8(random, kRows, kCols, 128);
    const engine::Matrix whole = rig.load(weight);
    Fp8Weight other = weight;
    for (uint8_t& code : other.codes) code = 0x38;
    const engine::Matrix pieces = rig.load(other);
    for (int64_t first = 0, count = 1; first < kRows; first += count, count = count * 3 % 50) {
      count = std::min(count, kRows - first);
      rig.ops().load_rows(
          pieces, first,
          memory::make_view(weight.codes.data() + first * kCols, DType::kF8E4m3, count, kCols));
    }
    const View x = rig.put(random_rows(random, DType::kF32, 3, kCols, 1.0), DType::kF32);
    const View a = rig.filled(DType::kF32, 3, kRows, 7.0);
    const View b = rig.filled(DType::kF32, 3, kRows, 8.0);
    rig.ops().linear(rig.stream(), x, whole, View(), a);
    rig.ops().linear(rig.stream(), x, pieces, View(), b);
    CAPTURE(backend.name, backend.threads, backend.simd);
    CHECK(rig.bytes(a) == rig.bytes(b));
  }
}

}  // namespace
}  // namespace engram::testing

// What rope_append leaves in a cache whose dtype is not the activations': codes and scales exactly,
// and how far they are from what was given.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tests/support/op_rig.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 141421;
constexpr int kPageTokens = 4;
constexpr int64_t kKvHeads = 2;

// A cache whose bytes are all 0xee.
struct Cache {
  Cache(OpRig& rig, DType dtype, int64_t pages, int64_t width)
      : rows(pages * kKvHeads * kPageTokens) {
    const bool fp8 = dtype == DType::kF8E4m3;
    const auto fresh = [&](int64_t bytes) {
      return rig.put(std::vector<uint8_t>(static_cast<size_t>(bytes), 0xee));
    };
    const int64_t bytes = rows * width * memory::dtype_bytes(dtype);
    kv = {
        .keys = fresh(bytes),
        .values = fresh(bytes),
        .dtype = dtype,
        .page_tokens = kPageTokens,
        .kv_heads = kKvHeads,
        .head_dim = static_cast<int>(width),
        .key_scales = fp8 ? static_cast<uint8_t*>(fresh(rows)) : nullptr,
        .value_scales = fp8 ? static_cast<uint8_t*>(fresh(rows)) : nullptr};
  }

  engine::KvLayer kv;
  int64_t rows;
};

// Codes and scale of the cache's rows.
struct Stored {
  std::vector<uint8_t> codes;
  std::vector<uint8_t> scales;
  int64_t width;

  const uint8_t* row(int64_t index) const { return codes.data() + index * width; }
  double value(int64_t index, int64_t i) const {
    return double{memory::e8m0_to_float(scales[static_cast<size_t>(index)])} *
           memory::e4m3_to_float(row(index)[i]);
  }
};

Stored read(OpRig& rig, const Cache& cache, void* codes, uint8_t* scales) {
  const int64_t width = cache.kv.head_dim;
  return {
      rig.bytes(memory::make_view(codes, DType::kU8, cache.rows, width)),
      rig.bytes(memory::make_view(scales, DType::kU8, cache.rows, 1)), width};
}

// Appends keys and values [T, Nk * Dh] at the positions from 0 on, each rotated by `angle` radians.
// Returns the cache row of every token and head.
std::vector<int64_t> append(
    OpRig& rig, const Rows& keys, const Rows& values, DType act, double angle, const Cache& cache) {
  const int64_t width = cache.kv.head_dim;
  const int64_t tokens = keys.rows;
  std::mt19937_64 random(kSeed);
  const std::vector<int32_t> pages = shuffled_pages(random, cache.rows / kKvHeads / kPageTokens);
  TestBatch batch(kPageTokens);
  batch.add(0, tokens, pages);
  Rows qkv(tokens, (2 * kKvHeads + 1) * width);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < kKvHeads * width; ++c) {
      qkv.at(t, width + c) = keys.at(t, c);
      qkv.at(t, (1 + kKvHeads) * width + c) = values.at(t, c);
    }
  }
  Rows angles(tokens, width);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < width / 2; ++i) {
      angles.at(t, i) = std::cos(angle);
      angles.at(t, width / 2 + i) = std::sin(angle);
    }
  }
  rig.ops().rope_append(
      rig.stream(), rig.put(batch), rig.put(qkv, act), View(), View(), 1e-6f,
      rig.put(angles, DType::kF32), cache.kv);
  std::vector<int64_t> rows;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t slot = batch.slots()[static_cast<size_t>(t)];
    for (int64_t head = 0; head < kKvHeads; ++head) {
      rows.push_back((slot / kPageTokens * kKvHeads + head) * kPageTokens + slot % kPageTokens);
    }
  }
  return rows;
}

// Heads that hold, beside their largest number, every code, every tie between two codes and the
// numbers next to a tie, of both signs, at several scales: [T, Nk * width].
Rows boundary_heads(int64_t width) {
  std::vector<double> numbers;
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float low = memory::e4m3_to_float(code);
    const float middle = (low + memory::e4m3_to_float(static_cast<uint8_t>(code + 1))) / 2;
    for (const float x :
         {low, std::nextafter(middle, 0.f), middle, std::nextafter(middle, 500.f)}) {
      numbers.push_back(x);
      if (x > 0) numbers.push_back(-x);  // a rotation loses the sign of 0
    }
  }
  constexpr std::array kExponents = {0, -30, 60};
  const int64_t per_head = width - 1;
  const int64_t heads = (std::ssize(numbers) + per_head - 1) / per_head;
  Rows all(heads * std::ssize(kExponents), kKvHeads * width);
  for (int64_t t = 0; t < all.rows; ++t) {
    for (int64_t c = 0; c < all.cols; ++c) {
      const size_t at = static_cast<size_t>(t % heads * per_head + c % width - 1);
      const double number = c % width == 0 ? 448.0 : at < numbers.size() ? numbers[at] : 0.0;
      all.at(t, c) = std::ldexp(number, kExponents[static_cast<size_t>(t / heads)]);
    }
  }
  return all;
}

void check_codes(const Stored& got, const std::vector<int64_t>& rows, const Rows& expected) {
  const int64_t width = got.width;
  std::vector<uint8_t> codes(static_cast<size_t>(width));
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t t = static_cast<int64_t>(i) / kKvHeads;
    const int64_t column = static_cast<int64_t>(i) % kKvHeads * width;
    CAPTURE(t, column);
    const uint8_t scale = encode_head(
        &expected.values[static_cast<size_t>(t * expected.cols + column)], width, codes.data());
    REQUIRE(int{got.scales[static_cast<size_t>(rows[i])]} == int{scale});
    for (int64_t c = 0; c < width; ++c) {
      CAPTURE(c, expected.at(t, column + c));
      REQUIRE(int{got.row(rows[i])[c]} == int{codes[static_cast<size_t>(c)]});
    }
  }
}

TEST_CASE("an fp8 cache holds the nearest codes of every boundary", "[ops]") {
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name, backend.simd);
    for (const int64_t width : {64, 20}) {
      CAPTURE(width);
      OpRig rig(backend);
      const Rows heads = boundary_heads(width);
      const Cache cache(rig, DType::kF8E4m3, heads.rows / kPageTokens + 3, width);
      const std::vector<int64_t> rows = append(rig, heads, heads, DType::kF32, 0.0, cache);
      check_codes(read(rig, cache, cache.kv.keys, cache.kv.key_scales), rows, heads);
      const Stored values = read(rig, cache, cache.kv.values, cache.kv.value_scales);
      check_codes(values, rows, heads);
      // Nothing else was written.
      for (int64_t row = 0; row < cache.rows; ++row) {
        if (std::ranges::find(rows, row) != rows.end()) continue;
        REQUIRE(int{values.scales[static_cast<size_t>(row)]} == 0xee);
        REQUIRE(std::all_of(
            values.row(row), values.row(row) + width, [](uint8_t byte) { return byte == 0xee; }));
      }
    }
  }
}

// Half a unit in the last of four binary places, and below 2^-6 of the scale half of 2^-9.
TEST_CASE("an fp8 cache is as near as four binary digits allow", "[ops]") {
  constexpr double kAngle = 0.7;
  for (const Backend& backend : backends()) {
    for (const DType act : {DType::kF32, DType::kBf16}) {
      CAPTURE(backend.name, backend.simd, memory::dtype_name(act));
      std::mt19937_64 random(kSeed);
      OpRig rig(backend);
      constexpr int64_t kWidth = 128;
      const Rows keys = random_rows(random, act, 40, kKvHeads * kWidth, 1.0);
      const Rows values = random_rows(random, act, 40, kKvHeads * kWidth, 30.0);
      const Cache cache(rig, DType::kF8E4m3, 12, kWidth);
      const std::vector<int64_t> rows = append(rig, keys, values, act, kAngle, cache);
      Rows rotated = keys;
      for (int64_t t = 0; t < keys.rows; ++t) {
        for (int64_t c = 0; c < keys.cols; ++c) {
          const int64_t half = kWidth / 2;
          const bool low = c % kWidth < half;
          const double other = low ? -keys.at(t, c + half) : keys.at(t, c - half);
          rotated.at(t, c) = keys.at(t, c) * std::cos(kAngle) + other * std::sin(kAngle);
        }
      }
      const auto check = [&](const Stored& got, const Rows& expected) {
        double error = 0.0;
        double size = 0.0;
        for (size_t i = 0; i < rows.size(); ++i) {
          const int64_t t = static_cast<int64_t>(i) / kKvHeads;
          const double scale = memory::e8m0_to_float(got.scales[static_cast<size_t>(rows[i])]);
          for (int64_t c = 0; c < kWidth; ++c) {
            const double x = expected.at(t, static_cast<int64_t>(i) % kKvHeads * kWidth + c);
            const double away = std::abs(got.value(rows[i], c) - x);
            const double rounding = 1e-6 * std::abs(x);  // of f32 before
            REQUIRE(away <= std::max(std::abs(x) * 0x1p-4, scale * 0x1p-10) + rounding);
            error += away * away;
            size += x * x;
          }
        }
        // Errors spread evenly over half a unit to either side give 6e-4.
        CHECK(error / size < 9e-4);
        CHECK(error / size > 3e-4);  // the cache is no finer than it says
      };
      check(read(rig, cache, cache.kv.keys, cache.kv.key_scales), rotated);
      check(read(rig, cache, cache.kv.values, cache.kv.value_scales), values);
    }
  }
}

TEST_CASE("an fp8 cache marks heads that are not finite", "[ops]") {
  for (const Backend& backend : backends()) {
    for (const DType act : {DType::kF32, DType::kBf16}) {
      CAPTURE(backend.name, backend.simd, memory::dtype_name(act));
      std::mt19937_64 random(kSeed);
      OpRig rig(backend);
      constexpr int64_t kWidth = 20;
      Rows heads = random_rows(random, act, 6, kKvHeads * kWidth, 1.0);
      heads.at(1, 3) = std::nan("");
      heads.at(3, kWidth + 19) = std::numeric_limits<double>::infinity();
      for (int64_t c = 0; c < kWidth; ++c) heads.at(4, c) = 0.0;
      heads.at(5, 7) = rounded(-3e38, act);
      const Cache cache(rig, DType::kF8E4m3, 4, kWidth);
      const std::vector<int64_t> rows = append(rig, heads, heads, act, 0.0, cache);
      const Stored got = read(rig, cache, cache.kv.values, cache.kv.value_scales);
      for (size_t i = 0; i < rows.size(); ++i) {
        CAPTURE(i);
        const bool broken = i == 2 || i == 7;  // token 1, head 0; token 3, head 1
        CHECK((got.scales[static_cast<size_t>(rows[i])] == 255) == broken);
        CHECK(std::isnan(got.value(rows[i], 0)) == broken);
      }
      CHECK(int{got.scales[static_cast<size_t>(rows[8])]} == 127);  // zeros
      CHECK(got.value(rows[8], 11) == 0.0);
      CHECK(got.value(rows[10], 7) < -2.8e38);
    }
  }
}

TEST_CASE("a bf16 cache under f32 activations rounds once", "[ops]") {
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name, backend.simd);
    std::mt19937_64 random(kSeed);
    OpRig rig(backend);
    constexpr int64_t kWidth = 20;
    const Rows heads = random_rows(random, DType::kF32, 9, kKvHeads * kWidth, 1.0);
    const Cache cache(rig, DType::kBf16, 4, kWidth);
    const std::vector<int64_t> rows = append(rig, heads, heads, DType::kF32, 0.0, cache);
    for (void* data : {cache.kv.keys, cache.kv.values}) {
      const Rows got = rig.get(memory::make_view(data, DType::kBf16, cache.rows, kWidth));
      for (size_t i = 0; i < rows.size(); ++i) {
        const int64_t t = static_cast<int64_t>(i) / kKvHeads;
        for (int64_t c = 0; c < kWidth; ++c) {
          const int64_t column = static_cast<int64_t>(i) % kKvHeads * kWidth + c;
          REQUIRE(got.at(rows[i], c) == rounded(heads.at(t, column), DType::kBf16));
        }
      }
    }
  }
}

}  // namespace
}  // namespace engram::testing

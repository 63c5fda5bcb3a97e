// Encoded rows against scalar encoders, code by code, on every vector target; and the error report
// against sums in double.
#include "memory/table/row_encode.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "memory/table/row_decode.h"
#include "memory/table/row_errors.h"
#include "tests/support/simd_targets.h"

namespace engram::memory {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A table of encoded rows with room between them that must stay as it was.
struct Encoded {
  TableGeometry geometry;
  std::vector<uint8_t> bytes;
  int64_t stride = 0;

  uint8_t* row(int64_t r) { return bytes.data() + r * stride; }
  RowPlace place() { return {bytes.data(), bytes.data() + geometry.value_bytes(), stride, stride}; }
};

TableGeometry make_geometry(RowCodec codec, int64_t width) {
  TableGeometry g;
  g.codec = codec;
  g.row_width = width;
  g.tensor_scale = 0.0123f;
  return g;
}

Encoded encode(const TableGeometry& g, const std::vector<float>& rows) {
  constexpr int64_t kGap = 5;
  Encoded e{g, {}, g.value_bytes() + g.scale_bytes() + kGap};
  const int64_t count = static_cast<int64_t>(rows.size()) / g.row_width;
  e.bytes.assign(static_cast<size_t>(count * e.stride), uint8_t{0xa5});
  encode_rows(
      g, rows.data(), count,
      {e.bytes.data(), e.bytes.data() + g.value_bytes(), e.stride, e.stride});
  int64_t touched = 0;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = e.stride - kGap; i < e.stride; ++i) touched += e.row(r)[i] != 0xa5;
  }
  CHECK(touched == 0);
  return e;
}

std::vector<float> decode(Encoded& e, int64_t count) {
  std::vector<float> out(static_cast<size_t>(count * e.geometry.row_width));
  for (int64_t r = 0; r < count; ++r) {
    decode_row(
        e.geometry, e.row(r), e.row(r) + e.geometry.value_bytes(), DType::kF32,
        out.data() + r * e.geometry.row_width);
  }
  return out;
}

// The nearest of all 256 codes, the even one of two; saturating.
uint8_t nearest_e4m3(float value) {
  if (std::isnan(value)) return 0x7f;
  uint8_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  const double magnitude = std::fabs(static_cast<double>(value));
  for (int code = 0; code < 0x7f; ++code) {
    const double miss =
        std::fabs(static_cast<double>(e4m3_to_float(static_cast<uint8_t>(code))) - magnitude);
    if (miss < least || (miss == least && code % 2 == 0)) {
      least = miss;
      best = static_cast<uint8_t>(code);
    }
  }
  if (std::isinf(value)) best = 0x7e;
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

bool same_e4m3(uint8_t a, uint8_t b) {
  return a == b || ((a & 0x7f) == 0x7f && (b & 0x7f) == 0x7f);
}

// Every e4m3 number, every middle between two and their neighbours; then other hard cases.
std::vector<float> hard_values() {
  std::vector<float> values = {0.f,        -0.f,    1.f,      448.f,        463.9f,
                               464.f,      465.f,   1e9f,     -3e38f,       kInfinity,
                               -kInfinity, 1e-20f,  1e-40f,   -1e-45f,      65504.f,
                               65519.f,    65520.f, -65536.f, std::nanf("")};
  for (int code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_float(static_cast<uint8_t>(code));
    const float middle = (low + e4m3_to_float(static_cast<uint8_t>(code + 1))) / 2.f;
    for (const float v : {low, middle}) {
      for (const float sign : {1.f, -1.f}) {
        values.push_back(sign * v);
        values.push_back(sign * std::nextafter(v, kInfinity));
        values.push_back(sign * std::nextafter(v, 0.f));
      }
    }
  }
  return values;
}

std::vector<float> random_rows(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(count);
  for (size_t i = 0; i < count; ++i) {
    // Magnitudes differ from stretch to stretch, as scales must.
    rows[i] = std::ldexp(normal(random), static_cast<int>(i / 64 % 24) - 16);
  }
  return rows;
}

TEST_CASE("floating point rows round to nearest even", "[row_encode]") {
  constexpr uint32_t kSeed = 3;
  CAPTURE(kSeed);
  std::vector<float> values = hard_values();
  const std::vector<float> more = random_rows(kSeed, 5000);
  values.insert(values.end(), more.begin(), more.end());
  test::on_each_target([&](int64_t) {
    for (const int64_t width : {int64_t{1}, int64_t{37}, static_cast<int64_t>(values.size())}) {
      std::vector<float> rows = values;
      rows.resize(rows.size() / static_cast<size_t>(width) * static_cast<size_t>(width));
      int64_t wrong = 0;
      for (const RowCodec codec : {RowCodec::kF32, RowCodec::kBf16, RowCodec::kF16}) {
        CAPTURE(row_codec_name(codec), width);
        Encoded e = encode(make_geometry(codec, width), rows);
        const std::vector<float> decoded = decode(e, static_cast<int64_t>(rows.size()) / width);
        for (size_t i = 0; i < rows.size(); ++i) {
          float expected = rows[i];
          if (codec == RowCodec::kBf16) expected = static_cast<float>(Bf16(rows[i]));
          if (codec == RowCodec::kF16 && !std::isnan(rows[i])) {
            expected =
                half_to_float(float_to_half(std::fmin(std::fmax(rows[i], -65504.f), 65504.f)));
          }
          const bool same = std::isnan(expected) ? std::isnan(decoded[i])
                                                 : std::bit_cast<uint32_t>(expected) ==
                                                       std::bit_cast<uint32_t>(decoded[i]);
          if (!same) ++wrong;
        }
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("fp8 rows hold the nearest code of value over scale", "[row_encode]") {
  constexpr uint32_t kSeed = 4;
  CAPTURE(kSeed);
  std::vector<float> rows = hard_values();
  const std::vector<float> more = random_rows(kSeed, 3000);
  rows.insert(rows.end(), more.begin(), more.end());
  test::on_each_target([&](int64_t) {
    for (const float scale : {1.f, 0.0123f}) {
      CAPTURE(scale);
      TableGeometry g = make_geometry(RowCodec::kF8Tensor, static_cast<int64_t>(rows.size()));
      g.tensor_scale = scale;
      Encoded e = encode(g, rows);
      int64_t wrong = 0;
      for (size_t i = 0; i < rows.size(); ++i) {
        if (!same_e4m3(e.bytes[i], nearest_e4m3(rows[i] / scale))) ++wrong;
      }
      CHECK(wrong == 0);
    }
  });
  CHECK(e4m3_tensor_scale(896.f) == 2.f);
  CHECK(e4m3_tensor_scale(0.f) == 1.f);
  CHECK(e4m3_tensor_scale(kInfinity) == 1.f);
}

TEST_CASE("a ue8m0 scale is the least power of two that saturates nothing", "[row_encode]") {
  constexpr uint32_t kSeed = 5;
  CAPTURE(kSeed);
  constexpr int64_t kWidth = 256;
  std::vector<float> rows = random_rows(kSeed, 40 * kWidth);
  // Blocks of every magnitude, of zeros, of one number exactly at and just above 448 * 2^k.
  for (int k = -149; k <= 127; ++k) {
    for (int i = 0; i < 32; ++i) {
      rows.push_back(std::ldexp(static_cast<float>(i - 20) / 16.f, std::min(k, 126)));
    }
  }
  rows.insert(rows.end(), 32, 0.f);
  for (int k = -20; k <= 20; ++k) {
    rows.insert(rows.end(), 32, std::ldexp(448.f, k));
    rows.insert(rows.end(), 32, -std::ldexp(448.001f, k));
  }
  rows.resize((rows.size() + kWidth - 1) / kWidth * kWidth, std::nanf(""));
  test::on_each_target([&](int64_t) {
    const TableGeometry g = make_geometry(RowCodec::kF8Ue8m0, kWidth);
    Encoded e = encode(g, rows);
    int64_t wrong_scales = 0;
    int64_t wrong_values = 0;
    for (size_t block = 0; block < rows.size() / 32; ++block) {
      double amax = 0.;
      for (size_t i = 0; i < 32; ++i) {
        const double magnitude = std::fabs(static_cast<double>(rows[block * 32 + i]));
        if (magnitude > amax) amax = magnitude;
      }
      int code = amax == 0. ? 127 : 0;
      while (code < 254 && std::ldexp(448., code - 127) < amax) ++code;
      uint8_t* row = e.row(static_cast<int64_t>(block) / 8);
      if (row[kWidth + block % 8] != code) ++wrong_scales;
      for (size_t i = 0; i < 32; ++i) {
        const float scaled =
            static_cast<float>(std::ldexp(static_cast<double>(rows[block * 32 + i]), 127 - code));
        if (!same_e4m3(row[block % 8 * 32 + i], nearest_e4m3(scaled))) ++wrong_values;
      }
    }
    CHECK(wrong_scales == 0);
    CHECK(wrong_values == 0);
  });
}

double squared_error(const float* a, const float* b, int64_t count) {
  double sum = 0.;
  for (int64_t i = 0; i < count; ++i) {
    sum += (static_cast<double>(a[i]) - static_cast<double>(b[i])) *
           (static_cast<double>(a[i]) - static_cast<double>(b[i]));
  }
  return sum;
}

TEST_CASE("integer rows hold the nearest integers of a good scale", "[row_encode]") {
  constexpr uint32_t kSeed = 6;
  CAPTURE(kSeed);
  const std::vector<float> rows = random_rows(kSeed, 60 * 192);
  test::on_each_target([&](int64_t) {
    for (const RowCodec codec : {RowCodec::kInt8, RowCodec::kInt4}) {
      for (const int group : {16, 32, 64, 192}) {
        CAPTURE(row_codec_name(codec), group);
        TableGeometry g = make_geometry(codec, 192);
        g.group = group;
        Encoded e = encode(g, rows);
        const std::vector<float> decoded = decode(e, 60);
        const float most = codec == RowCodec::kInt8 ? 127.f : 7.f;
        const float least = codec == RowCodec::kInt8 ? -127.f : -8.f;
        int64_t not_nearest = 0;
        int64_t worse = 0;
        for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(group)) {
          F16 stored;
          const size_t in_row = begin % 192 / static_cast<size_t>(group);
          std::memcpy(
              &stored, e.row(static_cast<int64_t>(begin / 192)) + g.value_bytes() + 2 * in_row, 2);
          const float scale = half_to_float(stored);
          float amax = 0.f;
          for (int i = 0; i < group; ++i) {
            const float x = rows[begin + static_cast<size_t>(i)];
            amax = std::fmax(amax, std::fabs(x));
            const float q = std::fmin(std::fmax(std::nearbyint(x * (1.f / scale)), least), most);
            if (decoded[begin + static_cast<size_t>(i)] != q * scale) ++not_nearest;
          }
          // Never worse than the plain choice, amax over the largest integer.
          const float plain = half_to_float(float_to_half(amax / most));
          std::vector<float> simple;
          for (int i = 0; i < group; ++i) {
            const float x = rows[begin + static_cast<size_t>(i)];
            simple.push_back(plain * std::fmin(std::fmax(std::nearbyint(x / plain), least), most));
          }
          const double chosen = squared_error(&rows[begin], &decoded[begin], group);
          if (chosen > squared_error(&rows[begin], simple.data(), group) * (1. + 1e-5)) ++worse;
        }
        CHECK(not_nearest == 0);
        CHECK(worse == 0);
      }
    }
  });
}

TEST_CASE("integers of zeros, of NaN and of numbers beyond f16 scales", "[row_encode]") {
  std::vector<float> rows(96, 0.f);
  for (size_t i = 32; i < 64; ++i) rows[i] = i == 40 ? std::nanf("") : 1.f;
  for (size_t i = 64; i < 96; ++i) rows[i] = i % 2 == 0 ? 3e38f : -3e38f;
  test::on_each_target([&](int64_t) {
    for (const RowCodec codec : {RowCodec::kInt8, RowCodec::kInt4}) {
      CAPTURE(row_codec_name(codec));
      Encoded e = encode(make_geometry(codec, 96), rows);
      const std::vector<float> decoded = decode(e, 1);
      for (size_t i = 0; i < 32; ++i) CHECK(decoded[i] == 0.f);
      CHECK(decoded[40] == 0.f);
      CHECK(decoded[41] == Approx(1.f).epsilon(0.01));
      for (size_t i = 64; i < 96; ++i) {
        CHECK(std::isfinite(decoded[i]));
        CHECK(decoded[i] * rows[i] > 0.f);
      }
    }
  });
}

TEST_CASE("the error report agrees with sums in double", "[row_encode]") {
  constexpr uint32_t kSeed = 7;
  CAPTURE(kSeed);
  constexpr int64_t kWidth = 96;
  constexpr int64_t kRows = 200;
  std::vector<float> rows = random_rows(kSeed, kRows * kWidth);
  std::fill_n(rows.begin() + 3 * kWidth, kWidth, 0.f);
  rows[5 * kWidth + 7] = std::nanf("");
  rows[9 * kWidth + 7] = 1e6f;  // beyond f16, and beyond fp8 times the tensor's scale
  test::on_each_target([&](int64_t) {
    for (const RowCodec codec : kRowCodecs) {
      CAPTURE(row_codec_name(codec));
      const TableGeometry g = make_geometry(codec, kWidth);
      Encoded e = encode(g, rows);
      const std::vector<float> decoded = decode(e, kRows);
      RowErrors first(g);
      RowErrors second(g);
      const RowPlace all = e.place();
      first.add(rows.data(), 50, all);
      second.add(
          rows.data() + 50 * kWidth, kRows - 50,
          {all.values + 50 * e.stride, all.scales + 50 * e.stride, e.stride, e.stride});
      first.merge(second);
      const RowErrorReport report = first.report();

      double error = 0.;
      double source = 0.;
      double most = 0.;
      double cosines = 0.;
      double least = 1.;
      for (int64_t r = 0; r < kRows; ++r) {
        if (r == 5) continue;
        double xx = 0.;
        double yy = 0.;
        double xy = 0.;
        for (int64_t i = r * kWidth; i < (r + 1) * kWidth; ++i) {
          const double x = static_cast<double>(rows[static_cast<size_t>(i)]);
          const double y = static_cast<double>(decoded[static_cast<size_t>(i)]);
          most = std::max(most, std::fabs(x - y));
          error += (x - y) * (x - y);
          xx += x * x;
          yy += y * y;
          xy += x * y;
        }
        source += xx;
        if (xx == 0.) continue;
        const double cosine = yy == 0. ? 0. : xy / std::sqrt(xx * yy);
        cosines += cosine;
        least = std::min(least, cosine);
      }
      CHECK(report.rows == kRows);
      CHECK(report.zero_rows == 1);
      CHECK(report.not_finite_rows == 1);
      CHECK(report.values == (kRows - 1) * kWidth);
      CHECK(report.nmse == Approx(error / source).epsilon(1e-4).margin(1e-14));
      CHECK(report.max_abs_error == Approx(most).epsilon(1e-6));
      CHECK(report.mean_cosine == Approx(cosines / (kRows - 2)).margin(1e-6));
      CHECK(report.min_cosine == Approx(least).margin(1e-6));
      if (codec == RowCodec::kF16) CHECK(report.saturated == 1);
      if (codec == RowCodec::kF8Tensor) CHECK(report.saturated >= 1);
      if (codec == RowCodec::kF8Ue8m0 || codec == RowCodec::kBf16) CHECK(report.saturated == 0);
      CHECK_THAT(
          report.text(),
          Catch::StartsWith(std::string(row_codec_name(codec)) + ": 200 rows, NMSE ") &&
              Catch::Contains("1 rows of zeros") && Catch::Contains("1 rows NOT FINITE"));
    }
  });
}

TEST_CASE("the largest magnitude passes over NaN", "[row_encode]") {
  std::vector<float> values(301, 0.5f);
  test::on_each_target([&](int64_t) {
    CHECK(max_magnitude(values.data(), 0) == 0.f);
    for (const size_t at : {size_t{0}, size_t{17}, size_t{63}, size_t{255}, size_t{300}}) {
      CAPTURE(at);
      std::vector<float> changed = values;
      changed[at] = -7.f;
      changed[(at + 1) % 301] = std::nanf("");
      changed[(at + 16) % 301] = std::nanf("");
      CHECK(max_magnitude(changed.data(), 301) == 7.f);
    }
  });
}

}  // namespace
}  // namespace engram::memory

#include "memory/base/tensor.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace engram::memory {
namespace {

TEST_CASE("bf16 rounds to nearest, ties to even, and keeps NaN", "[tensor]") {
  CHECK(Bf16(1.f).bits == 0x3f80);
  CHECK(Bf16(std::bit_cast<float>(0x3f808000u)).bits == 0x3f80);  // tie, even below
  CHECK(Bf16(std::bit_cast<float>(0x3f818000u)).bits == 0x3f82);  // tie, even above
  CHECK(Bf16(std::bit_cast<float>(0x3f808001u)).bits == 0x3f81);
  CHECK(std::isnan(static_cast<float>(Bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(std::isnan(static_cast<float>(Bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("every f16 code survives the way through f32", "[tensor]") {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const F16 half{static_cast<uint16_t>(code)};
    const float wide = half_to_float(half);
    if (std::isnan(wide)) continue;
    if (float_to_half(wide).bits != code) {
      CAPTURE(code, wide);
      REQUIRE(float_to_half(wide).bits == code);
    }
  }
  CHECK(float_to_half(65519.99f).bits == 0x7bff);
  CHECK(float_to_half(65520.f).bits == 0x7c00);
  CHECK(half_to_float({0x0001}) == std::ldexp(1.f, -24));
}

TEST_CASE("e4m3 and ue8m0 codes have their documented values", "[tensor]") {
  CHECK(e4m3_to_float(0x7e) == 448.f);
  CHECK(e4m3_to_float(0x01) == std::ldexp(1.f, -9));
  CHECK(e4m3_to_float(0x38) == 1.f);
  CHECK(e4m3_to_float(0xb8) == -1.f);
  CHECK(std::isnan(e4m3_to_float(0x7f)));
  CHECK(std::isnan(e4m3_to_float(0xff)));
  CHECK(e8m0_to_float(127) == 1.f);
  CHECK(e8m0_to_float(120) == 1.f / 128);
  CHECK(e8m0_to_float(0) == std::ldexp(1.f, -127));
}

// The code nearest to a number, the even one of two equally near: by looking at all of them.
uint8_t nearest_e4m3(double value) {
  if (std::isnan(value)) return std::signbit(value) ? 0xff : 0x7f;
  const double magnitude = std::fmin(std::fabs(value), 448.0);
  uint8_t best = 0;
  for (uint8_t code = 1; code < 0x7f; ++code) {
    const double now = std::fabs(e4m3_to_float(code) - magnitude);
    const double least = std::fabs(e4m3_to_float(best) - magnitude);
    if (now < least || (now == least && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

TEST_CASE("e4m3 rounds to nearest, ties to even, saturates and keeps NaN", "[tensor]") {
  for (uint8_t code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_float(code);
    const float high = e4m3_to_float(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;  // exact
    for (const float x :
         {low, std::nextafter(low, 500.f), std::nextafter(middle, 0.f), middle,
          std::nextafter(middle, 500.f), std::nextafter(high, 0.f)}) {
      CAPTURE(int{code}, x);
      CHECK(float_to_e4m3(x) == nearest_e4m3(x));
      CHECK(float_to_e4m3(-x) == nearest_e4m3(-x));
    }
    CHECK(float_to_e4m3(middle) == (code % 2 == 0 ? code : code + 1));
  }
  for (const float x : {448.f, 464.f, 465.f, 1e30f, std::numeric_limits<float>::infinity()}) {
    CHECK(float_to_e4m3(x) == 0x7e);
    CHECK(float_to_e4m3(-x) == 0xfe);
  }
  CHECK(float_to_e4m3(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK((float_to_e4m3(std::numeric_limits<float>::quiet_NaN()) & 0x7f) == 0x7f);
}

TEST_CASE("a scale is the least power of two that lets nothing saturate", "[tensor]") {
  CHECK(e8m0_scale_of(0) == 127);
  const auto scale = [](float largest) {
    return e8m0_to_float(e8m0_scale_of(std::bit_cast<uint32_t>(largest)));
  };
  for (int exponent = -100; exponent < 120; ++exponent) {
    const float most = std::ldexp(448.f, exponent);  // at scale 2^exponent
    CAPTURE(exponent);
    CHECK(scale(most) == std::ldexp(1.f, exponent));
    CHECK(
        scale(std::nextafter(most, std::numeric_limits<float>::infinity())) ==
        std::ldexp(1.f, exponent + 1));
    CHECK(scale(most / 2) == std::ldexp(1.f, exponent - 1));
  }
  CHECK(scale(std::numeric_limits<float>::denorm_min()) == 0x1p-127f);
  CHECK(scale(std::numeric_limits<float>::max()) == 0x1p120f);
}

TEST_CASE("row and column ranges share the bytes of their view", "[tensor]") {
  float data[12] = {};
  const View v = make_view(data, DType::kF32, 3, 4);
  CHECK(v.row_range(1, 2).as<float>() == data + 4);
  CHECK(v.col_range(1, 2).row<float>(2) == data + 9);
  CHECK_FALSE(v.col_range(1, 2).contiguous());
}

}  // namespace
}  // namespace engram::memory

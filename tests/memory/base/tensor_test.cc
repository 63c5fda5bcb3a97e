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

TEST_CASE("row and column ranges share the bytes of their view", "[tensor]") {
  float data[12] = {};
  const View v = make_view(data, DType::kF32, 3, 4);
  CHECK(v.row_range(1, 2).as<float>() == data + 4);
  CHECK(v.col_range(1, 2).row<float>(2) == data + 9);
  CHECK_FALSE(v.col_range(1, 2).contiguous());
}

}  // namespace
}  // namespace engram::memory

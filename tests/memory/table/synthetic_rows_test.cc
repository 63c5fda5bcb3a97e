#include "memory/table/synthetic_rows.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "memory/base/tensor.h"
#include "tests/support/simd_targets.h"

namespace engram::memory {
namespace {

TableGeometry geometry(RowCodec codec, int layer, int64_t width) {
  TableGeometry g;
  g.layer = layer;
  g.rows = 1000;
  g.row_width = width;
  g.codec = codec;
  return g;
}

struct Words {
  uint32_t first, keep, set;
};

// The definition in the header, byte by byte.
uint8_t wanted(int layer, int64_t row, int64_t byte, const Words& words) {
  uint64_t x =
      static_cast<uint64_t>(row) + (static_cast<uint64_t>(layer) + 1) * 0x9e3779b97f4a7c15u;
  for (int i = 0; i < 2; ++i) x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  const uint32_t j = words.first + static_cast<uint32_t>(byte / 4);
  uint32_t w = static_cast<uint32_t>(x) + j * 0x9e3779b9u;
  w = (w ^ (w >> 15)) * (static_cast<uint32_t>(x >> 32) | 1u);
  w = ((w ^ (w >> 13)) & words.keep) | words.set;
  return static_cast<uint8_t>(w >> (8 * (byte % 4)));
}

TEST_CASE("synthetic rows follow their definition on every target", "[synthetic_rows]") {
  test::on_each_target([](int64_t) {
    for (const int64_t width : {1, 3, 31, 64, 100, 256}) {
      const TableGeometry g = geometry(RowCodec::kInt8, 5, width);
      CAPTURE(width);
      const int64_t stride = g.value_bytes() + 5;
      std::vector<uint8_t> rows(static_cast<size_t>(3 * stride), 0xee);
      make_synthetic_rows(g, 997, 3, rows.data(), stride, nullptr, 0);
      for (int64_t r = 0; r < 3; ++r) {
        for (int64_t b = 0; b < stride; ++b) {
          const uint8_t value = b < g.value_bytes() ? wanted(5, 997 + r, b, {0, ~0u, 0}) : 0xee;
          REQUIRE(rows[static_cast<size_t>(r * stride + b)] == value);
        }
      }
    }
    const TableGeometry g = geometry(RowCodec::kF8Ue8m0, 0, 96);
    std::vector<uint8_t> values(96);
    std::vector<uint8_t> scales(3);
    make_synthetic_rows(g, 12345678901, 1, values.data(), 96, scales.data(), 3);
    for (int64_t b = 0; b < 96; ++b) {
      REQUIRE(values[static_cast<size_t>(b)] == wanted(0, 12345678901, b, {0, 0xbfbfbfbf, 0}));
    }
    for (int64_t b = 0; b < 3; ++b) {
      REQUIRE(
          scales[static_cast<size_t>(b)] ==
          wanted(0, 12345678901, b, {1u << 24, 0x07070707, 0x78787878}));
    }
  });
}

TEST_CASE("float rows are finite, of modest size, and not all alike", "[synthetic_rows]") {
  for (const RowCodec codec : kRowCodecs) {
    CAPTURE(row_codec_name(codec));
    const TableGeometry g = geometry(codec, 1, 128);
    std::vector<uint8_t> values(static_cast<size_t>(g.value_bytes() * g.rows));
    std::vector<uint8_t> scales(static_cast<size_t>(g.scale_bytes() * g.rows));
    make_synthetic_rows(
        g, 0, g.rows, values.data(), g.value_bytes(), scales.data(), g.scale_bytes());
    const auto check = [](float value) {
      REQUIRE(std::isfinite(value));
      REQUIRE(std::fabs(value) <= 2);
    };
    std::set<std::string> distinct;
    for (size_t i = 0; i < values.size(); i += static_cast<size_t>(g.value_bytes())) {
      distinct.insert(std::string(
          reinterpret_cast<const char*>(&values[i]), static_cast<size_t>(g.value_bytes())));
    }
    CHECK(static_cast<int64_t>(distinct.size()) == g.rows);
    for (size_t i = 0; i < values.size(); i += 4) {
      uint32_t word = 0;
      std::memcpy(&word, &values[i], 4);
      for (int half = 0; half < 2; ++half) {
        Bf16 b;
        b.bits = static_cast<uint16_t>(word >> (16 * half));
        if (codec == RowCodec::kBf16) check(static_cast<float>(b));
        if (codec == RowCodec::kF16) check(half_to_float({b.bits}));
      }
      if (codec == RowCodec::kF32) check(std::bit_cast<float>(word));
      if (codec == RowCodec::kF8Tensor || codec == RowCodec::kF8Ue8m0) {
        for (int byte = 0; byte < 4; ++byte) {
          check(e4m3_to_float(static_cast<uint8_t>(word >> (8 * byte))));
        }
      }
    }
    for (size_t i = 0; i < scales.size(); i += 2) {
      if (codec == RowCodec::kF8Ue8m0) {
        check(e8m0_to_float(scales[i]));
      } else {
        const float scale = half_to_float({static_cast<uint16_t>(scales[i] | scales[i + 1] << 8)});
        check(scale);
        REQUIRE(scale > 0);
      }
    }
  }
}

}  // namespace
}  // namespace engram::memory

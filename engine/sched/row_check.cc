#include "engine/sched/row_check.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string>

namespace engram::engine {
namespace {

using memory::Boundary;
using memory::Mix;
using memory::RowCodec;
using memory::TableGeometry;

__extension__ using Int128 = __int128;

// What the last token sees `back` positions before itself.
int64_t seen(const TableGeometry& g, std::span<const int32_t> ids, int back) {
  for (int d = 0; d <= back; ++d) {
    const int64_t at = std::ssize(ids) - 1 - d;
    if (at < 0) return g.fill_id;
    const int64_t id = ids[static_cast<size_t>(at)];
    if (g.boundary == Boundary::kDeadLatch && id < 0) return g.fill_id;
    if (g.boundary == Boundary::kEndOfText && d > 0 && id == g.boundary_id) return g.fill_id;
    if (d == back) return id;
  }
  return g.fill_id;
}

float half_at(const uint8_t* bytes, int64_t index) {
  memory::F16 half;
  std::memcpy(&half, bytes + 2 * index, 2);
  return memory::half_to_float(half);
}

// A 4-bit two's complement number.
int nibble(const uint8_t* bytes, int64_t index) {
  const int bits = (bytes[index / 2] >> (index % 2 == 0 ? 0 : 4)) & 15;
  return bits < 8 ? bits : bits - 16;
}

float value_at(const TableGeometry& g, const uint8_t* values, const uint8_t* scales, int64_t i) {
  switch (g.codec) {
    case RowCodec::kF32: {
      float value = 0.f;
      std::memcpy(&value, values + 4 * i, 4);
      return value;
    }
    case RowCodec::kBf16: {
      uint16_t bits = 0;
      std::memcpy(&bits, values + 2 * i, 2);
      return std::bit_cast<float>(uint32_t{bits} << 16);
    }
    case RowCodec::kF16:
      return half_at(values, i);
    case RowCodec::kF8Ue8m0:
      return memory::e4m3_to_float(values[i]) * memory::e8m0_to_float(scales[i / 32]);
    case RowCodec::kF8Tensor:
      return memory::e4m3_to_float(values[i]) * g.tensor_scale;
    case RowCodec::kInt8:
      return static_cast<float>(static_cast<int8_t>(values[i])) * half_at(scales, i / g.group);
    case RowCodec::kInt4:
      return static_cast<float>(nibble(values, i)) * half_at(scales, i / g.group);
  }
  return 0.f;
}

bool same_value(const RowSample& sample, size_t i, float expected) {
  if (sample.act == memory::DType::kF32) {
    float found = 0.f;
    std::memcpy(&found, &sample.staged[4 * i], 4);
    return std::bit_cast<uint32_t>(found) == std::bit_cast<uint32_t>(expected) ||
           (std::isnan(found) && std::isnan(expected));
  }
  memory::Bf16 found;
  std::memcpy(&found, &sample.staged[2 * i], 2);
  const memory::Bf16 rounded(expected);
  return std::memcmp(&found, &rounded, 2) == 0 ||
         (std::isnan(static_cast<float>(found)) && std::isnan(expected));
}

}  // namespace

int64_t row_by_definition(const TableGeometry& geometry, std::span<const int32_t> ids, int column) {
  const size_t c = static_cast<size_t>(column);
  const int order = geometry.orders[c / static_cast<size_t>(geometry.heads)];
  const int64_t modulus = geometry.moduli[c];
  if (geometry.mix == Mix::kPolynomial) {
    Int128 sum = 0;
    Int128 power = 1 % modulus;
    for (int back = 0; back < order; ++back) {
      sum += Int128{seen(geometry, ids, back)} * power;
      power = power * geometry.base % modulus;
    }
    return geometry.offsets[c] + static_cast<int64_t>((sum % modulus + modulus) % modulus);
  }
  uint64_t mix = 0;
  for (int back = 0; back < order; ++back) {
    mix ^= static_cast<uint64_t>(seen(geometry, ids, back)) *
           static_cast<uint64_t>(geometry.multipliers[static_cast<size_t>(back)]);
  }
  const int64_t number = std::bit_cast<int64_t>(mix);
  return geometry.offsets[c] + (number % modulus + modulus) % modulus;
}

std::vector<float> decode_by_definition(
    const TableGeometry& geometry, const uint8_t* values, const uint8_t* scales) {
  std::vector<float> row;
  for (int64_t i = 0; i < geometry.row_width; ++i) {
    row.push_back(value_at(geometry, values, scales, i));
  }
  return row;
}

RowCheck check_row(
    const RowSample& sample, const memory::TableSource& source, const TokenMap& token_map) {
  const TableGeometry& g = source.geometry();
  std::vector<int32_t> ids;
  for (const int32_t raw : sample.window) ids.push_back(token_map.of(raw));
  const std::string where = "n-gram row check, layer " + std::to_string(g.layer) + ", table " +
                            source.version() + ", column " + std::to_string(sample.column) + ": ";
  const int64_t row = row_by_definition(g, ids, sample.column);
  if (row != sample.row) {
    return {
        RowVerdict::kWrong, memory::data_loss(
                                where + "row " + std::to_string(sample.row) +
                                " was looked up, expected " + source.row_text(row))};
  }
  std::vector<uint8_t> values(static_cast<size_t>(g.value_bytes()));
  std::vector<uint8_t> scales(static_cast<size_t>(g.scale_bytes()));
  const memory::Status read = source.read_row(row, values.data(), scales.data());
  if (!read.ok()) return {RowVerdict::kUnchecked, read};
  const std::vector<float> expected = decode_by_definition(g, values.data(), scales.data());
  for (size_t i = 0; i < expected.size(); ++i) {
    if (same_value(sample, i, expected[i])) continue;
    return {
        RowVerdict::kWrong,
        memory::data_loss(
            where + "value " + std::to_string(i) + " is not that of " + source.row_text(row) +
            ", which is " + std::to_string(expected[i]))};
  }
  return {};
}

}  // namespace engram::engine

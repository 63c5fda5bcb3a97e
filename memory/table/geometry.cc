#include "memory/table/geometry.h"

#include <cmath>
#include <iterator>
#include <string>

namespace engram::memory {
namespace {

constexpr int64_t kMaxColumns = 1 << 14;
constexpr int64_t kMaxRowWidth = 1 << 16;
constexpr int64_t kMaxRows = int64_t{1} << 42;
constexpr int64_t kMaxIds = int64_t{1} << 31;  // ids are int32

Status reject(const std::string& field, const std::string& found, const std::string& expected) {
  return invalid_argument("table geometry: " + field + " is " + found + ", expected " + expected);
}

Status check_between(const std::string& field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return {};
  return reject(
      field, std::to_string(value), std::to_string(least) + " to " + std::to_string(most));
}

Status check_count(const std::string& field, size_t found, int64_t expected) {
  if (static_cast<int64_t>(found) == expected) return {};
  return reject(field, std::to_string(found) + " numbers", std::to_string(expected));
}

std::string indexed(const char* field, size_t index) {
  return std::string(field) + "[" + std::to_string(index) + "]";
}

Status check_columns(const TableGeometry& g) {
  if (g.orders.empty()) return reject("orders", "empty", "at least one order");
  int before = 0;
  for (size_t i = 0; i < g.orders.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(
        check_between(indexed("orders", i), g.orders[i], before + 1, kMaxNgramOrder));
    before = g.orders[i];
  }
  ENGRAM_RETURN_IF_ERROR(check_between("heads", g.heads, 1, kMaxColumns));
  const int64_t columns = static_cast<int64_t>(g.orders.size()) * g.heads;
  ENGRAM_RETURN_IF_ERROR(check_between("columns", columns, 1, kMaxColumns));
  ENGRAM_RETURN_IF_ERROR(check_count("moduli", g.moduli.size(), columns));
  ENGRAM_RETURN_IF_ERROR(check_count("offsets", g.offsets.size(), columns));
  ENGRAM_RETURN_IF_ERROR(check_between("rows", g.rows, 1, kMaxRows));
  int64_t row = 0;
  for (size_t c = 0; c < g.moduli.size(); ++c) {
    ENGRAM_RETURN_IF_ERROR(check_between(indexed("moduli", c), g.moduli[c], 1, g.rows - row));
    ENGRAM_RETURN_IF_ERROR(check_between(indexed("offsets", c), g.offsets[c], row, row));
    row += g.moduli[c];
  }
  return {};
}

// A polynomial column adds at most max_order products of an id and a number below its modulus.
Status check_polynomial(const TableGeometry& g) {
  ENGRAM_RETURN_IF_ERROR(check_count("multipliers", g.multipliers.size(), 0));
  ENGRAM_RETURN_IF_ERROR(check_between("base", g.base, 1, kMaxIds));
  const int64_t most = INT64_MAX / kMaxIds / (kMaxNgramOrder + 1);
  for (size_t c = 0; c < g.moduli.size(); ++c) {
    ENGRAM_RETURN_IF_ERROR(check_between(indexed("moduli", c), g.moduli[c], 1, most));
  }
  return {};
}

}  // namespace

const char* mix_name(Mix mix) {
  switch (mix) {
    case Mix::kXorMultiply:
      return "xor_multiply";
    case Mix::kPolynomial:
      return "polynomial";
  }
  return "?";
}

const char* boundary_name(Boundary boundary) {
  switch (boundary) {
    case Boundary::kNone:
      return "none";
    case Boundary::kDeadLatch:
      return "dead_latch";
    case Boundary::kEndOfText:
      return "end_of_text";
  }
  return "?";
}

const char* row_codec_name(RowCodec codec) {
  switch (codec) {
    case RowCodec::kBf16:
      return "bf16";
    case RowCodec::kF16:
      return "f16";
    case RowCodec::kF32:
      return "f32";
    case RowCodec::kF8Ue8m0:
      return "f8_e4m3+ue8m0";
    case RowCodec::kF8Tensor:
      return "f8_e4m3";
    case RowCodec::kInt8:
      return "int8";
    case RowCodec::kInt4:
      return "int4";
  }
  return "?";
}

std::optional<RowCodec> parse_row_codec(std::string_view name) {
  for (const RowCodec codec : kRowCodecs) {
    if (name == row_codec_name(codec)) return codec;
  }
  return std::nullopt;
}

int64_t TableGeometry::value_bytes() const {
  switch (codec) {
    case RowCodec::kBf16:
    case RowCodec::kF16:
      return 2 * row_width;
    case RowCodec::kF32:
      return 4 * row_width;
    case RowCodec::kF8Ue8m0:
    case RowCodec::kF8Tensor:
    case RowCodec::kInt8:
      return row_width;
    case RowCodec::kInt4:
      return row_width / 2;
  }
  ENGRAM_CHECK(false);
  return 0;
}

int64_t TableGeometry::scale_bytes() const {
  const int values = scale_group();
  if (values == 0) return 0;
  return row_width / values * (codec == RowCodec::kF8Ue8m0 ? 1 : 2);
}

int TableGeometry::scale_group() const {
  switch (codec) {
    case RowCodec::kBf16:
    case RowCodec::kF16:
    case RowCodec::kF32:
    case RowCodec::kF8Tensor:
      return 0;
    case RowCodec::kF8Ue8m0:
      return 32;
    case RowCodec::kInt8:
    case RowCodec::kInt4:
      return group;
  }
  ENGRAM_CHECK(false);
  return 0;
}

Status check_codec(const TableGeometry& g) {
  if (static_cast<size_t>(g.codec) >= std::size(kRowCodecs)) {
    return reject(
        "codec", std::to_string(static_cast<int>(g.codec)),
        "less than " + std::to_string(std::size(kRowCodecs)));
  }
  if (g.codec == RowCodec::kF8Tensor && !(g.tensor_scale > 0.f && std::isfinite(g.tensor_scale))) {
    return reject("tensor_scale", std::to_string(g.tensor_scale), "a positive number");
  }
  const bool integers = g.codec == RowCodec::kInt8 || g.codec == RowCodec::kInt4;
  if (integers && (g.group < 16 || g.group % 16 != 0)) {
    return reject("group", std::to_string(g.group), "a multiple of 16");
  }
  const int values = g.scale_group();
  if (values != 0 && g.row_width % values != 0) {
    return reject(
        "row_width", std::to_string(g.row_width),
        "a multiple of " + std::to_string(values) + " with codec " + row_codec_name(g.codec));
  }
  return {};
}

Status check_geometry(const TableGeometry& g) {
  ENGRAM_RETURN_IF_ERROR(check_between("layer", g.layer, 0, 1 << 20));
  ENGRAM_RETURN_IF_ERROR(check_columns(g));
  ENGRAM_RETURN_IF_ERROR(check_between("row_width", g.row_width, 1, kMaxRowWidth));
  ENGRAM_RETURN_IF_ERROR(check_codec(g));
  ENGRAM_RETURN_IF_ERROR(check_between("fill_id", g.fill_id, 0, kMaxIds - 1));
  switch (g.mix) {
    case Mix::kXorMultiply:
      ENGRAM_RETURN_IF_ERROR(check_count("multipliers", g.multipliers.size(), g.max_order()));
      break;
    case Mix::kPolynomial:
      ENGRAM_RETURN_IF_ERROR(check_polynomial(g));
      break;
    default:
      return reject("mix", std::to_string(static_cast<int>(g.mix)), "0 or 1");
  }
  switch (g.boundary) {
    case Boundary::kNone:
    case Boundary::kDeadLatch:
      return {};
    case Boundary::kEndOfText:
      return check_between("boundary_id", g.boundary_id, 0, kMaxIds - 1);
  }
  return reject("boundary", std::to_string(static_cast<int>(g.boundary)), "0, 1 or 2");
}

}  // namespace engram::memory

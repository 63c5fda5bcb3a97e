#include "memory/table/table_header.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "memory/base/checksum.h"

namespace engram::memory {
namespace {

constexpr char kMagic[8] = {'E', 'N', 'G', 'R', 'T', 'B', 'L', '\0'};
constexpr uint32_t kVersion = 1;

// Bounds on fields. With them no product or sum below leaves 63 bits.
constexpr int64_t kMaxRows = int64_t{1} << 40;
constexpr int64_t kMaxRowWidth = int64_t{1} << 16;
constexpr int64_t kMaxStride = int64_t{1} << 20;
constexpr int64_t kMaxDataBytes = int64_t{1} << 60;
constexpr int64_t kMaxExtentBytes = int64_t{1} << 30;
constexpr int64_t kMaxExtents = int64_t{1} << 24;

// The enumerators are stored, so their order is part of the format.
static_assert(static_cast<int>(RowCodec::kBf16) == 0);
static_assert(static_cast<int>(RowCodec::kF16) == 1);
static_assert(static_cast<int>(RowCodec::kF32) == 2);
static_assert(static_cast<int>(RowCodec::kF8Ue8m0) == 3);
static_assert(static_cast<int>(RowCodec::kF8Tensor) == 4);
static_assert(static_cast<int>(RowCodec::kInt8) == 5);
static_assert(static_cast<int>(RowCodec::kInt4) == 6);
static_assert(static_cast<int>(RowLayout::kInterleaved) == 1);
static_assert(static_cast<int>(Mix::kPolynomial) == 1);
static_assert(static_cast<int>(Boundary::kDeadLatch) == 1);
static_assert(static_cast<int>(Boundary::kEndOfText) == 2);

// Places of the fields in the header. What no field covers is zero.
enum Field : size_t {
  kAtMagic = 0,             // 8 bytes
  kAtVersion = 8,           // u32
  kAtHeaderBytes = 12,      // u32, 4096
  kAtLayer = 16,            // i32
  kAtCodec = 20,            // u8, as RowCodec
  kAtLayout = 21,           // u8, as RowLayout
  kAtMix = 22,              // u8, as Mix
  kAtBoundary = 23,         // u8, as Boundary
  kAtHeads = 24,            // i32
  kAtGroup = 28,            // i32
  kAtColumns = 32,          // u32
  kAtMultiplierCount = 36,  // u32
  kAtRows = 40,             // i64, as are all up to the tensor scale
  kAtRowWidth = 48,
  kAtValueBytes = 56,
  kAtScaleBytes = 64,
  kAtValueStride = 72,
  kAtScaleStride = 80,
  kAtValuesAt = 88,
  kAtScalesAt = 96,
  kAtDataOffset = 104,
  kAtDataBytes = 112,
  kAtExtentBytes = 120,
  kAtExtents = 128,
  kAtChecksumsOffset = 136,
  kAtChecksumsHash = 144,  // u64
  kAtFileBytes = 152,
  kAtFillId = 160,
  kAtBoundaryId = 168,
  kAtBase = 176,
  kAtTensorScale = 184,      // f32
  kAtOrderCount = 188,       // u32
  kAtOrders = 192,           // u8 [16]
  kAtTokenMap = 208,         // SHA-256, 32 bytes
  kAtMultipliers = 240,      // i64 [16]
  kAtModuli = 368,           // i64 [128]
  kAtOffsets = 1392,         // i64 [128]
  kAtOwnChecksum = 4096 - 8  // u64, of all bytes before
};
static_assert(kAtOrders + kMaxNgramOrder == kAtTokenMap);
static_assert(kAtMultipliers + 8 * kMaxNgramOrder == kAtModuli);
static_assert(kAtModuli + 8 * kMaxTableColumns == kAtOffsets);
static_assert(kAtOffsets + 8 * kMaxTableColumns <= kAtOwnChecksum);

template <typename T>
void put(std::string* out, size_t at, T value) {
  uint64_t bits = static_cast<uint64_t>(value);
  for (size_t i = 0; i < sizeof(T); ++i, bits >>= 8) (*out)[at + i] = static_cast<char>(bits);
}

template <typename T>
T get(std::span<const uint8_t> in, size_t at) {
  uint64_t bits = 0;
  for (size_t i = sizeof(T); i-- > 0;) bits = bits << 8 | in[at + i];
  return static_cast<T>(bits);
}

int64_t round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Reports the first field that is out of its range.
class Checker {
 public:
  explicit Checker(const std::string& name) : name_(name) {}

  void range(const char* field, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return;
    fail(
        std::string(field) + ": expected " + std::to_string(least) + " .. " + std::to_string(most) +
        ", found " + std::to_string(value));
  }
  void equal(const std::string& field, int64_t value, int64_t expected) {
    if (value == expected) return;
    fail(field + ": expected " + std::to_string(expected) + ", found " + std::to_string(value));
  }
  void holds(bool condition, const std::string& what) {
    if (!condition) fail(what);
  }
  void merge(const Status& status) {
    if (!status.ok()) fail(status.message());
  }
  bool ok() const { return status_.ok(); }
  Status status() const { return status_; }

 private:
  void fail(const std::string& what) {
    if (status_.ok()) status_ = invalid_argument(name_ + ": " + what);
  }

  const std::string name_;
  Status status_;
};

// What a geometry may be, and that the header has room for it.
void check_table(const TableGeometry& g, Checker* c) {
  c->range("codec", static_cast<int64_t>(g.codec), 0, static_cast<int64_t>(RowCodec::kInt4));
  c->range("columns", g.columns(), 1, kMaxTableColumns);
  c->range("orders", static_cast<int64_t>(g.orders.size()), 1, kMaxNgramOrder);
  c->range("multipliers", static_cast<int64_t>(g.multipliers.size()), 0, kMaxNgramOrder);
  c->range("rows", g.rows, 1, kMaxRows);
  c->range("row width", g.row_width, 1, kMaxRowWidth);
  c->range("group", g.group, 1, kMaxRowWidth);
  c->holds(
      std::isfinite(g.tensor_scale) && !std::signbit(g.tensor_scale),
      "tensor scale: expected a finite number >= 0, found " + std::to_string(g.tensor_scale));
  if (!c->ok()) return;
  c->merge(check_geometry(g));
  if (c->ok()) c->merge(check_codec(g));
}

// Rows stay apart and inside the data section.
void check_places(const TableHeader& h, Checker* c) {
  const TableGeometry& g = h.geometry;
  const int64_t value_bytes = g.value_bytes();
  const int64_t scale_bytes = g.scale_bytes();
  c->range("value stride", h.value_stride, value_bytes, kMaxStride);
  c->range("scale stride", h.scale_stride, scale_bytes, scale_bytes == 0 ? 0 : kMaxStride);
  c->range("place of the values", h.values_at, 0, h.data_bytes);
  c->range("place of the scales", h.scales_at, 0, scale_bytes == 0 ? 0 : h.data_bytes);
  if (!c->ok()) return;
  const int64_t values_end = h.values_at + (g.rows - 1) * h.value_stride + value_bytes;
  c->range("end of the values", values_end, 1, h.data_bytes);
  if (scale_bytes == 0) return;
  const int64_t scales_end = h.scales_at + (g.rows - 1) * h.scale_stride + scale_bytes;
  c->range("end of the scales", scales_end, 1, h.data_bytes);
  if (h.layout == RowLayout::kSplit) {
    c->range("place of the scales", h.scales_at, values_end, h.data_bytes);
  } else {
    c->equal("scale stride of interleaved rows", h.scale_stride, h.value_stride);
    c->range(
        "place of the scales in a row", h.scales_at - h.values_at, value_bytes,
        h.value_stride - scale_bytes);
  }
}

void check_header(const TableHeader& h, Checker* c) {
  check_table(h.geometry, c);
  c->range("layout", static_cast<int64_t>(h.layout), 0, 1);
  c->range("data offset", h.data_offset, kTableBlock, kMaxDataBytes);
  c->range("data bytes", h.data_bytes, kTableBlock, kMaxDataBytes);
  c->range("extent bytes", h.extent_bytes, kTableBlock, kMaxExtentBytes);
  c->equal("data offset modulo 4096", h.data_offset % kTableBlock, 0);
  c->equal("data bytes modulo 4096", h.data_bytes % kTableBlock, 0);
  c->equal("extent bytes modulo 4096", h.extent_bytes % kTableBlock, 0);
  if (!c->ok()) return;
  c->range("extents", h.extents(), 1, kMaxExtents);
  check_places(h, c);
}

void put_geometry(const TableGeometry& g, std::string* out) {
  put<int32_t>(out, kAtLayer, g.layer);
  put<uint8_t>(out, kAtCodec, static_cast<uint8_t>(g.codec));
  put<uint8_t>(out, kAtMix, static_cast<uint8_t>(g.mix));
  put<uint8_t>(out, kAtBoundary, static_cast<uint8_t>(g.boundary));
  put<int32_t>(out, kAtHeads, g.heads);
  put<int32_t>(out, kAtGroup, g.group);
  put<uint32_t>(out, kAtColumns, static_cast<uint32_t>(g.columns()));
  put<uint32_t>(out, kAtMultiplierCount, static_cast<uint32_t>(g.multipliers.size()));
  put<int64_t>(out, kAtRows, g.rows);
  put<int64_t>(out, kAtRowWidth, g.row_width);
  put<int64_t>(out, kAtValueBytes, g.value_bytes());
  put<int64_t>(out, kAtScaleBytes, g.scale_bytes());
  put<int64_t>(out, kAtFillId, g.fill_id);
  put<int64_t>(out, kAtBoundaryId, g.boundary_id);
  put<int64_t>(out, kAtBase, g.base);
  put<uint32_t>(out, kAtTensorScale, std::bit_cast<uint32_t>(g.tensor_scale));
  put<uint32_t>(out, kAtOrderCount, static_cast<uint32_t>(g.orders.size()));
  for (size_t i = 0; i < g.orders.size(); ++i) {
    put<uint8_t>(out, kAtOrders + i, static_cast<uint8_t>(g.orders[i]));
  }
  for (size_t i = 0; i < g.multipliers.size(); ++i) {
    put<int64_t>(out, kAtMultipliers + 8 * i, g.multipliers[i]);
  }
  for (size_t i = 0; i < g.moduli.size(); ++i) {
    put<int64_t>(out, kAtModuli + 8 * i, g.moduli[i]);
    put<int64_t>(out, kAtOffsets + 8 * i, g.offsets[i]);
  }
}

// Counts are checked by the caller.
TableGeometry get_geometry(std::span<const uint8_t> in) {
  TableGeometry g;
  g.layer = get<int32_t>(in, kAtLayer);
  g.codec = static_cast<RowCodec>(get<uint8_t>(in, kAtCodec));
  g.mix = static_cast<Mix>(get<uint8_t>(in, kAtMix));
  g.boundary = static_cast<Boundary>(get<uint8_t>(in, kAtBoundary));
  g.heads = get<int32_t>(in, kAtHeads);
  g.group = get<int32_t>(in, kAtGroup);
  g.rows = get<int64_t>(in, kAtRows);
  g.row_width = get<int64_t>(in, kAtRowWidth);
  g.fill_id = get<int64_t>(in, kAtFillId);
  g.boundary_id = get<int64_t>(in, kAtBoundaryId);
  g.base = get<int64_t>(in, kAtBase);
  g.tensor_scale = std::bit_cast<float>(get<uint32_t>(in, kAtTensorScale));
  for (size_t i = 0; i < get<uint32_t>(in, kAtOrderCount); ++i) {
    g.orders.push_back(get<uint8_t>(in, kAtOrders + i));
  }
  for (size_t i = 0; i < get<uint32_t>(in, kAtMultiplierCount); ++i) {
    g.multipliers.push_back(get<int64_t>(in, kAtMultipliers + 8 * i));
  }
  for (size_t i = 0; i < get<uint32_t>(in, kAtColumns); ++i) {
    g.moduli.push_back(get<int64_t>(in, kAtModuli + 8 * i));
    g.offsets.push_back(get<int64_t>(in, kAtOffsets + 8 * i));
  }
  return g;
}

// The bytes of a header whose fields were checked.
std::string serialise(const TableHeader& h) {
  std::string out(kTableBlock, '\0');
  std::memcpy(out.data(), kMagic, sizeof(kMagic));
  put<uint32_t>(&out, kAtVersion, kVersion);
  put<uint32_t>(&out, kAtHeaderBytes, static_cast<uint32_t>(kTableBlock));
  put_geometry(h.geometry, &out);
  put<uint8_t>(&out, kAtLayout, static_cast<uint8_t>(h.layout));
  put<int64_t>(&out, kAtValueStride, h.value_stride);
  put<int64_t>(&out, kAtScaleStride, h.scale_stride);
  put<int64_t>(&out, kAtValuesAt, h.values_at);
  put<int64_t>(&out, kAtScalesAt, h.scales_at);
  put<int64_t>(&out, kAtDataOffset, h.data_offset);
  put<int64_t>(&out, kAtDataBytes, h.data_bytes);
  put<int64_t>(&out, kAtExtentBytes, h.extent_bytes);
  put<int64_t>(&out, kAtExtents, h.extents());
  put<int64_t>(&out, kAtChecksumsOffset, h.checksums_offset());
  put<uint64_t>(&out, kAtChecksumsHash, h.checksums_hash);
  put<int64_t>(&out, kAtFileBytes, h.file_bytes());
  std::memcpy(out.data() + kAtTokenMap, h.token_map_sha256.data(), h.token_map_sha256.size());
  put<uint64_t>(&out, kAtOwnChecksum, checksum64(out.data(), kAtOwnChecksum));
  return out;
}

int64_t interleaved_stride(int64_t row_bytes) {
  const int64_t power = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(row_bytes)));
  const int64_t even = round_up(row_bytes, 8);
  const auto cheap = [&](int64_t stride) { return 10 * (stride - row_bytes) <= row_bytes; };
  return cheap(power) ? power : cheap(even) ? even : row_bytes;
}

}  // namespace

const char* row_layout_name(RowLayout layout) {
  return layout == RowLayout::kSplit ? "split" : "interleaved";
}

int64_t TableHeader::extents() const {
  return (data_bytes + extent_bytes - 1) / extent_bytes;
}

int64_t TableHeader::extent_size(int64_t extent) const {
  ENGRAM_CHECK(extent >= 0);
  ENGRAM_CHECK(extent < extents());
  return std::min(extent_bytes, data_bytes - extent_at(extent));
}

int64_t TableHeader::file_bytes() const {
  return checksums_offset() + round_up(8 * extents(), kTableBlock);
}

RowPlace row_place(const TableHeader& header, const void* data) {
  const uint8_t* bytes = static_cast<const uint8_t*>(data);
  return {
      .values = bytes + header.values_at,
      .scales = header.scale_stride == 0 ? nullptr : bytes + header.scales_at,
      .value_stride = header.value_stride,
      .scale_stride = header.scale_stride};
}

Result<TableHeader> plan_table(
    TableGeometry geometry,
    RowLayout layout,
    int64_t extent_bytes,
    const std::array<uint8_t, 32>& token_map_sha256) {
  Checker checker("table of layer " + std::to_string(geometry.layer));
  check_table(geometry, &checker);
  if (!checker.ok()) return checker.status();
  TableHeader h;
  const int64_t value_bytes = geometry.value_bytes();
  const int64_t scale_bytes = geometry.scale_bytes();
  int64_t end = 0;
  if (layout == RowLayout::kSplit) {
    h.value_stride = value_bytes;
    h.scale_stride = scale_bytes;
    end = geometry.rows * value_bytes;
    if (scale_bytes > 0) {
      h.scales_at = round_up(end, kTableBlock);
      end = h.scales_at + geometry.rows * scale_bytes;
    }
  } else {
    h.value_stride = interleaved_stride(value_bytes + scale_bytes);
    h.scale_stride = scale_bytes > 0 ? h.value_stride : 0;
    h.scales_at = scale_bytes > 0 ? value_bytes : 0;
    end = geometry.rows * h.value_stride;
  }
  h.geometry = std::move(geometry);
  h.layout = layout;
  h.data_offset = kTableBlock;
  h.data_bytes = round_up(end, kTableBlock);
  h.extent_bytes = extent_bytes;
  h.token_map_sha256 = token_map_sha256;
  check_header(h, &checker);
  if (!checker.ok()) return checker.status();
  return h;
}

Result<std::string> encode_table_header(const TableHeader& header) {
  Checker checker("table of layer " + std::to_string(header.geometry.layer));
  check_header(header, &checker);
  if (!checker.ok()) return checker.status();
  return serialise(header);
}

bool begins_table_file(std::span<const uint8_t> bytes) {
  return bytes.size() >= sizeof(kMagic) && std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) == 0;
}

Result<TableHeader> decode_table_header(std::span<const uint8_t> in, const std::string& name) {
  if (in.size() < static_cast<size_t>(kTableBlock) || !begins_table_file(in)) {
    return invalid_argument(
        name + ": is not a table file: expected a header of 4096 bytes that begins with ENGRTBL");
  }
  in = in.first(kTableBlock);
  Checker checker(name);
  checker.equal("format version", get<uint32_t>(in, kAtVersion), kVersion);
  if (!checker.ok()) return checker.status();
  const uint64_t own = checksum64(in.data(), kAtOwnChecksum);
  const uint64_t stored = get<uint64_t>(in, kAtOwnChecksum);
  if (own != stored) {
    return data_loss(
        name + ": the header is corrupt: its checksum is " + hex64(own) + ", it says " +
        hex64(stored));
  }
  checker.range("columns", get<uint32_t>(in, kAtColumns), 1, kMaxTableColumns);
  checker.range("orders", get<uint32_t>(in, kAtOrderCount), 1, kMaxNgramOrder);
  checker.range("multipliers", get<uint32_t>(in, kAtMultiplierCount), 0, kMaxNgramOrder);
  if (!checker.ok()) return checker.status();
  TableHeader h;
  h.geometry = get_geometry(in);
  h.layout = static_cast<RowLayout>(get<uint8_t>(in, kAtLayout));
  h.value_stride = get<int64_t>(in, kAtValueStride);
  h.scale_stride = get<int64_t>(in, kAtScaleStride);
  h.values_at = get<int64_t>(in, kAtValuesAt);
  h.scales_at = get<int64_t>(in, kAtScalesAt);
  h.data_offset = get<int64_t>(in, kAtDataOffset);
  h.data_bytes = get<int64_t>(in, kAtDataBytes);
  h.extent_bytes = get<int64_t>(in, kAtExtentBytes);
  h.checksums_hash = get<uint64_t>(in, kAtChecksumsHash);
  std::memcpy(h.token_map_sha256.data(), in.data() + kAtTokenMap, h.token_map_sha256.size());
  h.id = hex64(stored);
  check_header(h, &checker);
  if (!checker.ok()) return checker.status();
  // Sizes that follow from others, and bytes that belong to no field.
  checker.holds(
      std::memcmp(serialise(h).data(), in.data(), in.size()) == 0,
      "the header contradicts itself: a stored row size, extent count, file size or reserved byte "
      "is not what the other fields say");
  if (!checker.ok()) return checker.status();
  return h;
}

std::string encode_checksums(std::span<const uint64_t> checksums) {
  const int64_t bytes = 8 * static_cast<int64_t>(checksums.size());
  std::string out(static_cast<size_t>(round_up(bytes, kTableBlock)), '\0');
  for (size_t i = 0; i < checksums.size(); ++i) put<uint64_t>(&out, 8 * i, checksums[i]);
  return out;
}

std::vector<uint64_t> decode_checksums(std::string_view bytes, int64_t count) {
  ENGRAM_CHECK(static_cast<int64_t>(bytes.size()) >= 8 * count);
  const std::span<const uint8_t> in(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  std::vector<uint64_t> checksums;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    checksums.push_back(get<uint64_t>(in, 8 * i));
  }
  return checksums;
}

}  // namespace engram::memory

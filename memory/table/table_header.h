// What a table file says about itself: the geometry of its table, where rows lie, and the
// checksums that name this version.
//
// A table file is, in this order:
//   [0, 4096)                  the header, little endian; see table_header.cc for its fields
//   [data_offset, +data_bytes) the data section: the memory image of the table, byte for byte
//   [checksums_offset, ...)    XXH3-64 of each extent of the data section, u64; zeros up to 4096
// Every part begins and ends at a multiple of 4096, so that all of it can be read directly. Padding
// is zero. The header holds the checksum of the checksums and then its own, so its own, in hex, is
// the id of the table: two files with the same id have the same geometry, layout and rows.
//
// Rows in the data section:
//   kSplit        all values, value_bytes apart, then (at a multiple of 4096) all scales,
//                 scale_bytes apart. A row of 256 fp8 values is two aligned lines of 128 bytes.
//   kInterleaved  a row's values and behind them its scales, so that one read fetches both. The
//                 stride is the next power of two if that costs at most 10 % (then no row of up to
//                 4 KiB crosses a block), else the next multiple of 8 if that costs at most 10 %,
//                 else the row itself. fp8 + ue8m0 of 256: 264 bytes, of which 6 % cross a block
//                 and are one read of two blocks; bf16 of 256: 512 bytes, and none crosses.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/geometry.h"
#include "memory/table/row_place.h"

namespace engram::memory {

enum class RowLayout : uint8_t { kSplit, kInterleaved };

const char* row_layout_name(RowLayout layout);  // "split"

constexpr int64_t kTableBlock = 4096;  // header bytes, and the alignment of everything
constexpr int kMaxTableColumns = 128;
constexpr int64_t kDefaultExtentBytes = int64_t{16} << 20;

struct TableHeader {
  TableGeometry geometry;
  RowLayout layout = RowLayout::kSplit;
  int64_t value_stride = 0;  // bytes from one row to the next
  int64_t scale_stride = 0;  // 0 without scales
  int64_t values_at = 0;     // first row, from the start of the data section
  int64_t scales_at = 0;     // 0 without scales
  int64_t data_offset = 0;   // in the file
  int64_t data_bytes = 0;
  int64_t extent_bytes = kDefaultExtentBytes;  // of one checksum; the last extent may be shorter
  std::array<uint8_t, 32> token_map_sha256{};  // zeros: the model has no token map
  uint64_t checksums_hash = 0;                 // of the encoded extent checksums
  std::string id;                              // 16 hex digits; empty before it is written

  int64_t extents() const;
  int64_t extent_at(int64_t extent) const { return extent * extent_bytes; }  // in the data section
  int64_t extent_size(int64_t extent) const;
  int64_t checksums_offset() const { return data_offset + data_bytes; }
  int64_t file_bytes() const;
};

// Where the rows lie in memory that holds the data section.
RowPlace row_place(const TableHeader& header, const void* data);

// The header of a new table: strides and sizes as described above. INVALID_ARGUMENT names the field
// of the geometry that a table file cannot hold.
Result<TableHeader> plan_table(
    TableGeometry geometry,
    RowLayout layout,
    int64_t extent_bytes,
    const std::array<uint8_t, 32>& token_map_sha256);

// The 4096 bytes of the header, its own checksum included. INVALID_ARGUMENT as for decoding.
Result<std::string> encode_table_header(const TableHeader& header);

// Checks every field and their agreement: codec, sizes, columns, strides inside the data section.
// `name` begins every message. DATA_LOSS: the header's checksum is wrong; INVALID_ARGUMENT: not a
// table file, another version, or a field that cannot be. What is accepted encodes to the same
// bytes again.
Result<TableHeader> decode_table_header(std::span<const uint8_t> bytes, const std::string& name);

// Whether a file that begins with these bytes says it is a table file.
bool begins_table_file(std::span<const uint8_t> bytes);

// The checksums at the end of the file: u64 each, zeros up to a multiple of 4096. The header's
// checksums_hash is the XXH3-64 of these bytes.
std::string encode_checksums(std::span<const uint64_t> checksums);
std::vector<uint64_t> decode_checksums(std::string_view bytes, int64_t count);

}  // namespace engram::memory

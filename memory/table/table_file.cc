#include "memory/table/table_file.h"

#include <fcntl.h>

#include <array>
#include <cstring>
#include <utility>

#include "memory/base/checksum.h"

namespace engram::memory {
namespace {

Status check_size(const File& file, const TableHeader& header) {
  if (file.bytes() == header.file_bytes()) return {};
  return data_loss(
      file.path() + ": expected " + std::to_string(header.file_bytes()) + " bytes (" +
      std::to_string(header.geometry.rows) + " rows, " + std::to_string(header.extents()) +
      " extents), found " + std::to_string(file.bytes()));
}

Result<std::vector<uint64_t>> read_checksums(const File& file, const TableHeader& header) {
  const int64_t bytes = header.file_bytes() - header.checksums_offset();
  std::string text(static_cast<size_t>(bytes), '\0');
  ENGRAM_RETURN_IF_ERROR(file.read(header.checksums_offset(), bytes, text.data()));
  std::vector<uint64_t> checksums = decode_checksums(text, header.extents());
  const uint64_t found = checksum64(text.data(), bytes);
  if (found != header.checksums_hash) {
    return data_loss(
        file.path() + ": the extent checksums at byte " +
        std::to_string(header.checksums_offset()) + " are corrupt: their checksum is " +
        hex64(found) + ", the header says " + hex64(header.checksums_hash));
  }
  return checksums;
}

// Drops the pages that hold a range from the page cache.
void forget(const File& file, int64_t offset, int64_t bytes) {
  const int64_t begin = offset / kTableBlock * kTableBlock;
  const int64_t end = (offset + bytes + kTableBlock - 1) / kTableBlock * kTableBlock;
  static_cast<void>(::posix_fadvise(file.descriptor(), begin, end - begin, POSIX_FADV_DONTNEED));
}

}  // namespace

TableFile::TableFile(File file, TableHeader header, std::vector<uint64_t> checksums)
    : file_(std::move(file)), header_(std::move(header)), checksums_(std::move(checksums)) {}

Result<std::shared_ptr<const TableFile>> TableFile::open(const std::string& path) {
  if (path.ends_with(kUnfinishedSuffix)) {
    return failed_precondition(path + ": is an unfinished conversion; run it again to finish it");
  }
  Result<File> file = File::open(path);
  if (!file.ok()) return file.status();
  const File& f = file.value();
  // Advice, as forget() is. Reading ahead would fill the page cache with rows nobody asked for.
  static_cast<void>(::posix_fadvise(f.descriptor(), 0, 0, POSIX_FADV_RANDOM));
  if (f.bytes() < kTableBlock) {
    return data_loss(
        path + ": expected a table file of more than 4096 bytes, found " +
        std::to_string(f.bytes()));
  }
  std::array<uint8_t, kTableBlock> block;
  ENGRAM_RETURN_IF_ERROR(f.read(0, kTableBlock, block.data()));
  Result<TableHeader> header = decode_table_header(block, path);
  if (!header.ok()) return header.status();
  ENGRAM_RETURN_IF_ERROR(check_size(f, header.value()));
  Result<std::vector<uint64_t>> checksums = read_checksums(f, header.value());
  if (!checksums.ok()) return checksums.status();
  forget(f, 0, f.bytes());
  return std::shared_ptr<const TableFile>(new TableFile(
      std::move(file).value(), std::move(header).value(), std::move(checksums).value()));
}

Status TableFile::check_extent(int64_t extent, const void* data) const {
  return check_extent_sum(extent, checksum64(data, header_.extent_size(extent)));
}

Status TableFile::check_extent_sum(int64_t extent, uint64_t found) const {
  const int64_t bytes = header_.extent_size(extent);
  if (found == extent_checksum(extent)) return {};
  const int64_t offset = header_.data_offset + header_.extent_at(extent);
  return data_loss(
      path() + ": extent " + std::to_string(extent) + " (bytes " + std::to_string(offset) + " to " +
      std::to_string(offset + bytes) + ") is corrupt: its checksum is " + hex64(found) +
      ", expected " + hex64(extent_checksum(extent)));
}

Status TableFile::read_row(int64_t row, uint8_t* values, uint8_t* scales) const {
  const TableGeometry& g = header_.geometry;
  if (row < 0 || row >= g.rows) {
    return invalid_argument(
        path() + ": row " + std::to_string(row) + ", expected 0 .. " + std::to_string(g.rows - 1));
  }
  ENGRAM_RETURN_IF_ERROR(
      read_data(header_.values_at + row * header_.value_stride, g.value_bytes(), values));
  if (header_.scale_stride == 0) return {};
  return read_data(header_.scales_at + row * header_.scale_stride, g.scale_bytes(), scales);
}

Status TableFile::read_data(int64_t offset, int64_t bytes, void* to) const {
  const Status status = file_.read(header_.data_offset + offset, bytes, to);
  forget(file_, header_.data_offset + offset, bytes);
  return status;
}

}  // namespace engram::memory

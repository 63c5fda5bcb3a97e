// A finished table file, open for reading. Its header and extent checksums are checked and held;
// rows are not read until asked for. Constant once open; any thread may use it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"
#include "memory/io/file.h"
#include "memory/table/table_header.h"

namespace engram::memory {

// The name of a table file while it is being written ends with this; it is never opened.
constexpr const char* kUnfinishedSuffix = ".unfinished";

class TableFile {
 public:
  // Reads header and checksums, not the rows. Errors name the file: NOT_FOUND, PERMISSION_DENIED;
  // INVALID_ARGUMENT: not a table file, or fields that cannot be; FAILED_PRECONDITION: an
  // unfinished conversion; DATA_LOSS: a wrong checksum, or the file is shorter or longer than its
  // header says.
  static Result<std::shared_ptr<const TableFile>> open(const std::string& path);

  const TableHeader& header() const { return header_; }
  const std::string& path() const { return file_.path(); }
  int64_t extents() const { return header_.extents(); }
  uint64_t extent_checksum(int64_t extent) const { return checksums_[static_cast<size_t>(extent)]; }
  const std::vector<uint64_t>& checksums() const { return checksums_; }

  // `data` holds the bytes of that extent, header().extent_size(extent) of them. DATA_LOSS names
  // file, extent, its offset in the file, and both checksums.
  Status check_extent(int64_t extent, const void* data) const;
  // The same, when the checksum has been taken already.
  Status check_extent_sum(int64_t extent, uint64_t found) const;

  // Copies one row as it is stored.
  //   values  [value_bytes]
  //   scales  [scale_bytes], null without scales
  // INVALID_ARGUMENT: no such row; DATA_LOSS: the file cannot be read there.
  Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const;

  // Bytes [offset, offset + bytes) of the data section. Leaves nothing in the page cache.
  Status read_data(int64_t offset, int64_t bytes, void* to) const;

  // This very file for direct reads, whatever has its name by now. Errors: those of opening it.
  Result<DirectFile> open_direct() const { return DirectFile::open_again(file_); }

 private:
  TableFile(File file, TableHeader header, std::vector<uint64_t> checksums);

  const File file_;
  const TableHeader header_;
  const std::vector<uint64_t> checksums_;
};

}  // namespace engram::memory

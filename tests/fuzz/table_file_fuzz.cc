// Any bytes as a table's header, and as a table file; by the first byte also with the header's own
// checksum made right, so that the input reaches the checks of the fields. What is accepted must
// encode to the same bytes, and every row must be readable.
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "memory/base/checksum.h"
#include "memory/base/status.h"
#include "memory/table/table_file.h"

namespace {

using engram::memory::TableFile;
using engram::memory::TableGeometry;
using engram::memory::TableHeader;

constexpr size_t kHeader = 4096;

// A directory of this process; removed at its end.
struct Directory {
  std::string path;

  Directory() {
    char pattern[] = "/tmp/table_file_fuzz_XXXXXX";
    path = ::mkdtemp(pattern);
  }
  ~Directory() { std::system(("rm -rf " + path).c_str()); }
};

void put_word(std::string* text, size_t at, uint64_t value) {
  std::memcpy(text->data() + at, &value, sizeof(value));
}

void check_header(const std::string& text) {
  const auto header = engram::memory::decode_table_header(
      {reinterpret_cast<const uint8_t*>(text.data()), text.size()}, "fuzz");
  if (!header.ok()) {
    ENGRAM_CHECK(!header.status().message().empty());
    return;
  }
  const TableHeader& h = header.value();
  const auto again = engram::memory::encode_table_header(h);
  ENGRAM_CHECK(again.ok());
  ENGRAM_CHECK(again.value() == text.substr(0, kHeader));
  const TableGeometry& g = h.geometry;
  ENGRAM_CHECK(h.values_at + (g.rows - 1) * h.value_stride + g.value_bytes() <= h.data_bytes);
  ENGRAM_CHECK(h.extent_at(h.extents() - 1) < h.data_bytes);
}

void check_file(const std::string& path) {
  const auto file = TableFile::open(path);
  if (!file.ok()) return;
  const TableHeader& h = file.value()->header();
  std::vector<uint8_t> extent(static_cast<size_t>(h.extent_bytes));
  for (int64_t e = 0; e < h.extents(); ++e) {
    const int64_t bytes = h.extent_size(e);
    ENGRAM_CHECK(file.value()->read_data(h.extent_at(e), bytes, extent.data()).ok());
    (void)file.value()->check_extent(e, extent.data()).ok();
  }
  std::vector<uint8_t> values(static_cast<size_t>(h.geometry.value_bytes()));
  std::vector<uint8_t> scales(static_cast<size_t>(h.geometry.scale_bytes()));
  for (int64_t row = 0; row < h.geometry.rows; ++row) {
    ENGRAM_CHECK(file.value()->read_row(row, values.data(), scales.data()).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Directory directory;
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 4 != 0) text.resize(std::max(text.size(), kHeader));
  if (data[0] % 2 == 1)
    put_word(&text, kHeader - 8, engram::memory::checksum64(text.data(), kHeader - 8));
  if (data[0] % 4 < 2) {
    check_header(text);
    return 0;
  }
  const std::string path = directory.path + "/t";
  std::ofstream(path, std::ios::binary) << text;
  check_file(path);
  return 0;
}

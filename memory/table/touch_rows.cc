#include "memory/table/touch_rows.h"

#include <algorithm>
#include <functional>
#include <vector>

namespace engram::memory {
namespace {

constexpr int64_t kPage = 4096;
// Pages asked for before they are read, so that their latencies overlap.
constexpr int64_t kAhead = 16;

void read_byte(const uint8_t* at) {
  // Volatile: the value is not wanted, the read is.
  static_cast<void>(*static_cast<const volatile uint8_t*>(at));
}

int64_t touch(const uint8_t* data, int64_t bytes) {
  const int64_t pages = (bytes + kPage - 1) / kPage;
  for (int64_t i = 0; i < pages; ++i) {
    __builtin_prefetch(data + std::min(i + kAhead, pages - 1) * kPage);
    read_byte(data + i * kPage);
  }
  // `data` may begin in the middle of a page, and then this one is one more.
  if (bytes > 0) read_byte(data + bytes - 1);
  return pages;
}

}  // namespace

int64_t touch_rows(const RowStore& store) {
  const TableGeometry& table = store.geometry();
  const std::vector<PlacedRows> parts = store.in_memory();
  int64_t pages = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const RowPlace& place = parts[i].place;
    const int64_t end = i + 1 < parts.size() ? parts[i + 1].first : table.rows;
    const int64_t last = end - parts[i].first - 1;
    if (parts[i].in_device || last < 0) continue;
    pages += touch(place.values, last * place.value_stride + table.value_bytes());
    if (place.scales == nullptr) continue;
    // Rows that hold their scales lie beside them already.
    const std::less<const uint8_t*> before;
    const bool interleaved = !before(place.scales, place.values) &&
                             before(place.scales, place.values + place.value_stride);
    if (!interleaved) pages += touch(place.scales, last * place.scale_stride + table.scale_bytes());
  }
  return pages;
}

}  // namespace engram::memory

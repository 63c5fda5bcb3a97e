// Which pages reading the rows touches, as the kernel sees it: all that hold rows, no other.
#include "memory/table/touch_rows.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <utility>
#include <vector>

namespace engram::memory {
namespace {

constexpr int64_t kPage = 4096;

// Pages that nobody has touched, between pages whose touch is a crash.
class FreshPages {
 public:
  explicit FreshPages(int64_t count) : count_(count) {
    void* mapped = ::mmap(
        nullptr, size(count + 2), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(mapped != MAP_FAILED);
    mapped_ = static_cast<uint8_t*>(mapped);
    REQUIRE(::mprotect(begin(), size(count), PROT_READ | PROT_WRITE) == 0);
    // A huge page of zeros would be there as a whole.
    ::madvise(begin(), size(count), MADV_NOHUGEPAGE);
  }
  ~FreshPages() { ::munmap(mapped_, size(count_ + 2)); }
  FreshPages(const FreshPages&) = delete;
  FreshPages& operator=(const FreshPages&) = delete;

  uint8_t* begin() const { return mapped_ + kPage; }
  uint8_t* end() const { return begin() + count_ * kPage; }
  int64_t touched() const {
    std::vector<unsigned char> there(static_cast<size_t>(count_));
    REQUIRE(::mincore(begin(), size(count_), there.data()) == 0);
    return std::ranges::count_if(there, [](unsigned char page) { return (page & 1) != 0; });
  }

 private:
  static size_t size(int64_t pages) { return static_cast<size_t>(pages * kPage); }
  const int64_t count_;
  uint8_t* mapped_ = nullptr;
};

class PlacedStore : public RowStore {
 public:
  PlacedStore(TableGeometry geometry, std::vector<PlacedRows> parts)
      : geometry_(std::move(geometry)), parts_(std::move(parts)) {}
  const TableGeometry& geometry() const override { return geometry_; }
  std::string placement() const override { return "anywhere"; }
  std::string version() const override { return "1"; }
  RowStoreStats stats() const override { return {}; }
  std::vector<PlacedRows> in_memory() const override { return parts_; }

 private:
  Status do_gather(const int64_t*, const int32_t*, int64_t, View, std::vector<int32_t>*) override {
    return internal("nobody gathers");
  }
  const TableGeometry geometry_;
  const std::vector<PlacedRows> parts_;
};

TableGeometry geometry(RowCodec codec, int64_t rows, int64_t width, int group) {
  TableGeometry g;
  g.codec = codec;
  g.rows = rows;
  g.row_width = width;
  g.group = group;
  return g;
}

}  // namespace

TEST_CASE("touch rows: to the last page and not beyond, wherever they begin") {
  const TableGeometry g = geometry(RowCodec::kBf16, 1000, 80, 0);  // 160 bytes, 39.06 pages
  REQUIRE(g.value_bytes() == 160);
  const auto check = [&](const FreshPages& pages, const uint8_t* values, int64_t touched) {
    const PlacedStore store(g, {{.place = {.values = values, .value_stride = 160}}});
    CHECK(touch_rows(store) == 40);
    CHECK(pages.touched() == touched);
  };
  const FreshPages until_end(40);
  check(until_end, until_end.end() - 160000, 40);
  const FreshPages from_begin(41);
  check(from_begin, from_begin.begin(), 40);
  const FreshPages across(41);
  check(across, across.begin() + 4000, 41);
}

TEST_CASE("touch rows: scales apart and scales within") {
  const TableGeometry g = geometry(RowCodec::kInt8, 4096, 64, 32);
  REQUIRE(g.value_bytes() == 64);
  REQUIRE(g.scale_bytes() == 4);
  const FreshPages values(64);
  const FreshPages scales(4);
  const PlacedStore apart(
      g, {{.place = {
               .values = values.begin(),
               .scales = scales.begin(),
               .value_stride = 64,
               .scale_stride = 4}}});
  CHECK(touch_rows(apart) == 68);
  CHECK(values.touched() == 64);
  CHECK(scales.touched() == 4);

  const FreshPages both(68);
  const PlacedStore within(
      g, {{.place = {
               .values = both.begin(),
               .scales = both.begin() + 64,
               .value_stride = 68,
               .scale_stride = 68}}});
  CHECK(touch_rows(within) == 68);
  CHECK(both.touched() == 68);
}

TEST_CASE("touch rows: all parts but those of a device, and none where rows are not in memory") {
  const TableGeometry g = geometry(RowCodec::kBf16, 3 * 256, 8, 0);  // 16 bytes
  const FreshPages first(1);
  const FreshPages of_device(1);
  const FreshPages last(1);
  const auto at = [](const FreshPages& pages) {
    return RowPlace{.values = pages.begin(), .value_stride = 16};
  };
  const PlacedStore split(
      g, {{.first = 0, .place = at(first)},
          {.first = 256, .place = at(of_device), .in_device = true},
          {.first = 512, .place = at(last)}});
  CHECK(touch_rows(split) == 2);
  CHECK(first.touched() == 1);
  CHECK(of_device.touched() == 0);
  CHECK(last.touched() == 1);
  CHECK(touch_rows(PlacedStore(g, {})) == 0);
}

}  // namespace engram::memory

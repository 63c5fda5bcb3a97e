#include <atomic>
#include <cmath>
#include <utility>

#include "memory/device/host_memory.h"
#include "memory/device/host_pages.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_store.h"

namespace engram::memory {
namespace {

class HostStore : public HostRowStore {
 public:
  HostStore(TableGeometry geometry, HostRows rows)
      : geometry_(std::move(geometry)), rows_(std::move(rows)) {}

  const TableGeometry& geometry() const override { return geometry_; }
  const RowPlace& place() const override { return rows_.place; }
  std::string version() const override { return rows_.version; }
  std::vector<PlacedRows> in_memory() const override { return {{.place = rows_.place}}; }
  void count_rows(int64_t rows) override { rows_read_.fetch_add(rows, std::memory_order_relaxed); }

  std::string placement() const override {
    const double share =
        rows_.huge_share ? *rows_.huge_share : huge_page_share(rows_.place.values, rows_.bytes);
    return rows_.where + ", " + std::to_string(std::lround(100. * share)) + " % huge pages";
  }

  RowStoreStats stats() const override {
    const int64_t rows = rows_read_.load(std::memory_order_relaxed);
    RowStoreStats stats;
    stats.rows_read = rows;
    stats.bytes_read = rows * (geometry_.value_bytes() + geometry_.scale_bytes());
    return stats;
  }

 private:
  Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>*) override {
    decode_rows({
        .geometry = &geometry_,
        .place = rows_.nearest ? rows_.nearest() : rows_.place,
        .ids = row_ids,
        .slots = slots,
        .tokens = tokens,
        .out = out,
    });
    count_rows(tokens * geometry_.columns());
    return {};
  }

  // Constant.
  const TableGeometry geometry_;
  const HostRows rows_;

  // Atomic: counted by the gathering thread, read by any.
  std::atomic<int64_t> rows_read_{0};
};

struct TwoBuffers {
  Buffer values;
  Buffer scales;
};

}  // namespace

Result<std::unique_ptr<HostRowStore>> make_host_row_store(TableGeometry geometry, HostRows rows) {
  ENGRAM_RETURN_IF_ERROR(check_codec(geometry));
  return std::unique_ptr<HostRowStore>(
      std::make_unique<HostStore>(std::move(geometry), std::move(rows)));
}

Result<OwnedTable> make_owned_table(TableGeometry geometry, std::string version) {
  ENGRAM_RETURN_IF_ERROR(check_codec(geometry));
  const std::string name = "n-gram table of layer " + std::to_string(geometry.layer);
  Result<Buffer> values = allocate_host(name, geometry.rows * geometry.value_bytes());
  if (!values.ok()) return values.status();
  Result<Buffer> scales = allocate_host(name + ", scales", geometry.rows * geometry.scale_bytes());
  if (!scales.ok()) return scales.status();
  auto owner = std::make_shared<TwoBuffers>();
  owner->values = std::move(values).value();
  owner->scales = std::move(scales).value();
  OwnedTable table;
  table.values = owner->values.as<uint8_t>();
  table.scales = owner->scales.as<uint8_t>();
  const int64_t bytes = owner->values.bytes();
  const RowPlace place{
      .values = table.values,
      .scales = table.scales,
      .value_stride = geometry.value_bytes(),
      .scale_stride = geometry.scale_bytes()};
  Result<std::unique_ptr<HostRowStore>> store = make_host_row_store(
      std::move(geometry), {.place = place,
                            .bytes = bytes,
                            .owner = std::move(owner),
                            .where = "host",
                            .version = std::move(version)});
  if (!store.ok()) return store.status();
  table.store = std::move(store).value();
  return table;
}

}  // namespace engram::memory

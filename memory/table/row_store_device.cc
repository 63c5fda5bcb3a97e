#include "memory/table/row_store_device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/device/host_memory.h"
#include "memory/table/table_part.h"

namespace engram::memory {
namespace {

constexpr int64_t kSliceBytes = int64_t{256} << 20;  // of host memory at a time

class DeviceStore : public RowStore {
 public:
  DeviceStore(TableGeometry geometry, RowPlace place, Buffer memory, std::string version)
      : geometry_(std::move(geometry)),
        place_(place),
        memory_(std::move(memory)),
        version_(std::move(version)) {}

  const TableGeometry& geometry() const override { return geometry_; }
  std::string placement() const override { return "hbm, " + format_bytes(memory_.bytes()); }
  std::string version() const override { return version_; }
  std::vector<PlacedRows> in_memory() const override {
    return {{.place = place_, .in_device = true}};
  }
  void count_rows(int64_t rows) override { rows_read_.fetch_add(rows, std::memory_order_relaxed); }
  RowStoreStats stats() const override {
    RowStoreStats stats;
    stats.rows_read = rows_read_.load(std::memory_order_relaxed);
    stats.bytes_read = stats.rows_read * (geometry_.value_bytes() + geometry_.scale_bytes());
    return stats;
  }

 private:
  Status do_gather(const int64_t*, const int32_t*, int64_t, View, std::vector<int32_t>*) override {
    ENGRAM_CHECK(!"rows in the device's memory are gathered by the device");
    return {};
  }

  // Constant.
  const TableGeometry geometry_;
  const RowPlace place_;
  const Buffer memory_;
  const std::string version_;

  // Atomic: counted by the engine's thread, read by any.
  std::atomic<int64_t> rows_read_{0};
};

// Rows where the host has them, on their way to the device.
class Copier {
 public:
  // `to`: of the device, without gaps, for rows from 0 on.
  Copier(Device& device, const TableGeometry& geometry, uint8_t* values, uint8_t* scales)
      : device_(device),
        stream_(device.make_stream("tables")),
        value_bytes_(geometry.value_bytes()),
        scale_bytes_(geometry.scale_bytes()),
        values_(values),
        scales_(scales) {}

  int64_t row_bytes() const { return value_bytes_ + scale_bytes_; }

  // `count` rows of `from`, from its row `first` on, become the device's rows from `row` on.
  void copy(const RowPlace& from, int64_t first, int64_t row, int64_t count) {
    put(from.values + first * from.value_stride, from.value_stride, value_bytes_, count,
        values_ + row * value_bytes_);
    if (scale_bytes_ > 0) {
      put(from.scales + first * from.scale_stride, from.scale_stride, scale_bytes_, count,
          scales_ + row * scale_bytes_);
    }
  }

 private:
  void put(const uint8_t* from, int64_t stride, int64_t bytes, int64_t count, uint8_t* to) {
    if (stride != bytes) {
      packed_.resize(static_cast<size_t>(count * bytes));
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(
            &packed_[static_cast<size_t>(i * bytes)], from + i * stride,
            static_cast<size_t>(bytes));
      }
      from = packed_.data();
    }
    device_.copy(*stream_, to, from, count * bytes);
    stream_->synchronize();
  }

  Device& device_;
  const std::unique_ptr<Stream> stream_;
  const int64_t value_bytes_;
  const int64_t scale_bytes_;
  uint8_t* const values_;
  uint8_t* const scales_;
  std::vector<uint8_t> packed_;
};

Status copy_file(
    const TableFile& file,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Copier& copier,
    const std::function<void(int64_t)>& on_bytes) {
  const int64_t at_a_time = std::max<int64_t>(1, kSliceBytes / copier.row_bytes());
  for (int64_t row = first; row < end; row += at_a_time) {
    const int64_t count = std::min(at_a_time, end - row);
    Result<TablePart> part = load_table_part(file, row, row + count, arena, nullptr, {});
    if (!part.ok()) return part.status();
    copier.copy(part.value().place, 0, row - first, count);
    if (on_bytes) on_bytes(count * copier.row_bytes());
  }
  return {};
}

Status copy_image(
    const TableSource& source,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Copier& copier,
    const std::function<void(int64_t)>& on_bytes) {
  Result<TableMemory> image = allocate_table_memory(
      "n-gram table of layer " + std::to_string(source.geometry().layer) + ", on its way",
      source.image_bytes(), arena, nullptr);
  if (!image.ok()) return image.status();
  ENGRAM_RETURN_IF_ERROR(source.load(image.value().data(), {}));
  copier.copy(source.place(image.value().data()), first, 0, end - first);
  if (on_bytes) on_bytes((end - first) * copier.row_bytes());
  return {};
}

}  // namespace

Result<std::unique_ptr<RowStore>> load_device_row_store(
    TableGeometry geometry,
    const TableSource& source,
    int64_t first,
    int64_t end,
    const ArenaOptions& arena,
    Device& device,
    const std::function<void(int64_t)>& on_bytes) {
  ENGRAM_CHECK(geometry.rows == end - first);
  ENGRAM_RETURN_IF_ERROR(check_codec(geometry));
  constexpr int64_t kLine = 256;
  const int64_t value_bytes = (geometry.rows * geometry.value_bytes() + kLine - 1) / kLine * kLine;
  Result<Buffer> memory = device.allocate(
      "n-gram table of layer " + std::to_string(geometry.layer) + " in hbm",
      value_bytes + geometry.rows * geometry.scale_bytes());
  if (!memory.ok()) return memory.status();
  uint8_t* const values = memory.value().as<uint8_t>();
  uint8_t* const scales = geometry.scale_bytes() > 0 ? values + value_bytes : nullptr;
  Copier copier(device, geometry, values, scales);
  ArenaOptions unpinned = arena;
  unpinned.pin = PinPages::kNo;
  const std::shared_ptr<const TableFile> file = source.file();
  ENGRAM_RETURN_IF_ERROR(
      file != nullptr ? copy_file(*file, first, end, unpinned, copier, on_bytes)
                      : copy_image(source, first, end, unpinned, copier, on_bytes));
  const RowPlace place{
      .values = values,
      .scales = scales,
      .value_stride = geometry.value_bytes(),
      .scale_stride = geometry.scale_bytes()};
  return std::unique_ptr<RowStore>(std::make_unique<DeviceStore>(
      std::move(geometry), place, std::move(memory).value(), source.version()));
}

}  // namespace engram::memory

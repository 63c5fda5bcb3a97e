#include <cmath>
#include <utility>

#include "memory/device/host_memory.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_store.h"

namespace engram::memory {
namespace {

class HugePageStore : public HostRowStore {
 public:
  HugePageStore(TableGeometry geometry, Buffer values, Buffer scales)
      : geometry_(std::move(geometry)), values_(std::move(values)), scales_(std::move(scales)) {}

  const TableGeometry& geometry() const override { return geometry_; }
  void* values() override { return values_.data(); }
  void* scales() override { return scales_.data(); }
  RowStoreStats stats() const override { return stats_; }

  std::string placement() const override {
    const double share = huge_page_share(values_.data(), values_.bytes());
    return "host, " + std::to_string(std::lround(100. * share)) + " % huge pages";
  }

  void gather(const int64_t* row_ids, const int32_t* slots, int64_t tokens, View out) override {
    ENGRAM_CHECK(tokens >= 0);
    ENGRAM_CHECK(out.cols == geometry_.vector_width());
    ENGRAM_CHECK(out.dtype == DType::kF32 || out.dtype == DType::kBf16);
    decode_rows({
        .codec = geometry_.codec,
        .rows = geometry_.rows,
        .width = geometry_.row_width,
        .value_bytes = geometry_.value_bytes(),
        .scale_bytes = geometry_.scale_bytes(),
        .values = values_.as<uint8_t>(),
        .scales = scales_.as<uint8_t>(),
        .ids = row_ids,
        .slots = slots,
        .tokens = tokens,
        .columns = geometry_.columns(),
        .out = out,
    });
    const int64_t rows = tokens * geometry_.columns();
    stats_.rows_read += rows;
    stats_.bytes_read += rows * (geometry_.value_bytes() + geometry_.scale_bytes());
  }

 private:
  // Constant.
  const TableGeometry geometry_;
  const Buffer values_;
  const Buffer scales_;

  // The gathering thread.
  RowStoreStats stats_;
};

}  // namespace

Result<std::unique_ptr<HostRowStore>> make_host_row_store(TableGeometry geometry) {
  const std::string name = "n-gram table of layer " + std::to_string(geometry.layer);
  if (geometry.codec == RowCodec::kF8Ue8m0 && geometry.row_width % 32 != 0) {
    return invalid_argument(
        name + ": rows with scales need a width that is a multiple of 32, found " +
        std::to_string(geometry.row_width));
  }
  Result<Buffer> values = allocate_host(name, geometry.rows * geometry.value_bytes());
  if (!values.ok()) return values.status();
  Result<Buffer> scales = allocate_host(name + ", scales", geometry.rows * geometry.scale_bytes());
  if (!scales.ok()) return scales.status();
  return std::unique_ptr<HostRowStore>(std::make_unique<HugePageStore>(
      std::move(geometry), std::move(values).value(), std::move(scales).value()));
}

}  // namespace engram::memory

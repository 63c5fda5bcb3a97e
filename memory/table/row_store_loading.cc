#include "memory/table/row_store_loading.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>
#include <vector>

#include "memory/table/row_decode.h"
#include "memory/table/row_reader.h"

namespace engram::memory {
namespace {

// Of rows read in one call; the reader keeps as much memory until all is loaded.
constexpr int64_t kStagingBytes = int64_t{8} << 20;

// A row that is not loaded, and where it goes.
struct Missing {
  int64_t token = 0;
  int64_t column = 0;
};

class LoadingStore : public RowStore {
 public:
  LoadingStore(
      LoadingTable table, std::unique_ptr<HostRowStore> host, std::unique_ptr<RowReader> reader)
      : file_(std::move(table.file)),
        load_(std::move(table.load)),
        host_(std::move(host)),
        staged_tokens_(std::max<int64_t>(
            1, kStagingBytes / (reader->row_bytes() * host_->geometry().columns()))),
        served_(static_cast<size_t>(file_->extents())),
        reader_(std::move(reader)) {}

  const TableGeometry& geometry() const override { return host_->geometry(); }
  std::string version() const override { return host_->version(); }

  std::string placement() const override {
    const LoadProgress progress = load_->progress();
    if (progress.over && load_->status().ok()) return host_->placement();
    return host_->placement() + ", " + (progress.over ? "failed at " : "loading: ") +
           progress.text();
  }

  RowStoreStats stats() const override {
    RowStoreStats stats = host_->stats();
    const int64_t rows = rows_read_.load(std::memory_order_relaxed);
    stats.rows_read += rows;
    stats.bytes_read += rows * (geometry().value_bytes() + geometry().scale_bytes());
    return stats;
  }

 private:
  Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed) override {
    if (!loaded_ && load_->over() && load_->status().ok()) {
      loaded_ = true;
      reader_.reset();
    }
    if (loaded_) return host_->gather(row_ids, slots, tokens, out, failed);
    const Piece piece{.ids = row_ids, .slots = slots, .tokens = tokens, .out = out};
    const Status status = gather_piece(piece, failed);
    rows_read_.fetch_add(tokens * geometry().columns(), std::memory_order_relaxed);
    return status;
  }

  int64_t most_tokens() const override {
    return loaded_ ? std::numeric_limits<int64_t>::max() : staged_tokens_;
  }

  struct Piece {
    const int64_t* ids;
    const int32_t* slots;
    int64_t tokens;
    View out;
  };

  // Calls f with every extent that holds bytes of the row.
  template <typename F>
  void for_extents(int64_t row, F&& f) const {
    const TableHeader& header = file_->header();
    const auto visit = [&](int64_t begin, int64_t bytes) {
      if (bytes == 0) return;
      const int64_t last = (begin + bytes - 1) / header.extent_bytes;
      for (int64_t extent = begin / header.extent_bytes; extent <= last; ++extent) f(extent);
    };
    visit(header.values_at + row * header.value_stride, header.geometry.value_bytes());
    visit(header.scales_at + row * header.scale_stride, header.geometry.scale_bytes());
  }

  bool ready(int64_t row) const {
    bool all = true;
    for_extents(row, [&](int64_t extent) { all = all && load_->ready(extent); });
    return all;
  }

  void decode(
      const Piece& piece,
      const Missing& place,
      const uint8_t* values,
      const uint8_t* scales) const {
    const int64_t at = place.column * geometry().row_width;
    const View& out = piece.out;
    const int32_t slot = piece.slots[place.token];
    ENGRAM_CHECK(slot >= 0);
    ENGRAM_CHECK(slot < out.rows);
    with_activation_type(out.dtype, [&]<typename T>(Type<T>) {
      decode_row(geometry(), values, scales, out.dtype, out.row<T>(slot) + at);
    });
  }

  Status gather_piece(const Piece& piece, std::vector<int32_t>* failed) {
    missing_.clear();
    rows_.clear();
    // Asked before the extents: what has failed by now gets no readier.
    const bool over = load_->over();
    const RowPlace& place = host_->place();
    for (int64_t t = 0; t < piece.tokens; ++t) {
      for (int64_t h = 0; h < geometry().columns(); ++h) {
        const int64_t id = piece.ids[t * geometry().columns() + h];
        ENGRAM_CHECK(id >= 0);
        ENGRAM_CHECK(id < geometry().rows);
        if (ready(id)) {
          const uint8_t* scales =
              place.scales != nullptr ? place.scales + id * place.scale_stride : nullptr;
          decode(piece, {t, h}, place.values + id * place.value_stride, scales);
        } else {
          missing_.push_back({t, h});
          rows_.push_back({.row = id});
        }
      }
    }
    if (missing_.empty()) return {};
    Status status = over ? failure() : reader_->read(rows_);
    int64_t last_failed = -1;
    for (size_t i = 0; i < missing_.size(); ++i) {
      if (rows_[i].values != nullptr) {
        decode(piece, missing_[i], rows_[i].values, rows_[i].scales);
        for_extents(
            rows_[i].row, [&](int64_t extent) { served_[static_cast<size_t>(extent)] = true; });
        continue;
      }
      // Tokens come in order, so one with several missing rows was the last one added.
      if (missing_[i].token == last_failed) continue;
      last_failed = missing_[i].token;
      failed->push_back(static_cast<int32_t>(last_failed));
    }
    return status;
  }

  // Why the load failed, and whether rows of an extent that is not known to be right went out.
  Status failure() const {
    const Status status = load_->status();
    int64_t extents = 0;
    for (size_t i = 0; i < served_.size(); ++i) {
      extents += served_[i] && !load_->ready(static_cast<int64_t>(i)) ? 1 : 0;
    }
    if (extents == 0) return status;
    return {
        status.code(), status.message() + "; rows of " + std::to_string(extents) +
                           " extents were served before their checksum was taken"};
  }

  // Constant.
  const std::shared_ptr<const TableFile> file_;
  const std::shared_ptr<TableLoad> load_;
  const std::unique_ptr<HostRowStore> host_;
  const int64_t staged_tokens_;

  // The gathering thread.
  bool loaded_ = false;
  std::vector<bool> served_;  // [extents], rows of it went out before it was ready
  std::vector<Missing> missing_;
  std::vector<FileRow> rows_;  // of missing_
  std::unique_ptr<RowReader> reader_;

  // Atomic: counted by the gathering thread, read by any.
  std::atomic<int64_t> rows_read_{0};
};

}  // namespace

Result<std::unique_ptr<RowStore>> make_loading_row_store(LoadingTable table) {
  Result<std::unique_ptr<HostRowStore>> host =
      make_host_row_store(table.file->header().geometry, std::move(table.rows));
  if (!host.ok()) return host.status();
  Result<std::unique_ptr<RowReader>> reader = RowReader::make(table.file, std::move(table.queue));
  if (!reader.ok()) return reader.status();
  return std::unique_ptr<RowStore>(std::make_unique<LoadingStore>(
      std::move(table), std::move(host).value(), std::move(reader).value()));
}

}  // namespace engram::memory

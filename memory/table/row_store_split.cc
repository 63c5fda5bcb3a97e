#include "memory/table/row_store_split.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <utility>

namespace engram::memory {
namespace {

class SplitRowStore : public RowStore {
 public:
  SplitRowStore(TableGeometry geometry, std::vector<RowPart> parts, int64_t max_rows)
      : geometry_(std::move(geometry)),
        most_tokens_(std::max<int64_t>(1, max_rows / geometry_.columns())) {
    const size_t most = static_cast<size_t>(most_tokens_ * geometry_.columns());
    for (RowPart& part : parts) {
      parts_.push_back({.first = part.first, .store = std::move(part.store)});
      parts_.back().ids.reserve(most);
      parts_.back().slots.reserve(most);
      parts_.back().tokens.reserve(most);
    }
    failed_.reserve(most);
    bad_tokens_.reserve(most);
  }

  const TableGeometry& geometry() const override { return geometry_; }
  std::string version() const override { return parts_.front().store->version(); }

  std::string placement() const override {
    std::string text;
    for (const Part& part : parts_) {
      text += (text.empty() ? "rows from " : "; rows from ") + std::to_string(part.first) + ": " +
              part.store->placement();
    }
    return text;
  }

  std::vector<PlacedRows> in_memory() const override {
    std::vector<PlacedRows> placed;
    for (const Part& part : parts_) {
      const std::vector<PlacedRows> of_part = part.store->in_memory();
      if (of_part.size() != 1) return {};
      placed.push_back({part.first, of_part[0].place, of_part[0].in_device});
    }
    return placed;
  }
  // Which part rows came from is known to the reader alone.
  void count_rows(int64_t rows) override { rows_taken_.fetch_add(rows, std::memory_order_relaxed); }

  RowStoreStats stats() const override {
    RowStoreStats sum;
    for (const Part& part : parts_) {
      const RowStoreStats stats = part.store->stats();
      sum.rows_read += stats.rows_read;
      sum.bytes_read += stats.bytes_read;
      sum.cache_hits += stats.cache_hits;
      sum.cache_misses += stats.cache_misses;
      sum.file_reads += stats.file_reads;
      sum.file_bytes += stats.file_bytes;
      sum.failed_rows += stats.failed_rows;
    }
    const int64_t taken = rows_taken_.load(std::memory_order_relaxed);
    sum.rows_read += taken;
    sum.bytes_read += taken * (geometry_.value_bytes() + geometry_.scale_bytes());
    return sum;
  }

 private:
  struct Part {
    int64_t first = 0;
    std::unique_ptr<RowStore> store;
    // The rows of the piece that are here: their ids and slots in the part's terms, their tokens.
    std::vector<int64_t> ids = {};
    std::vector<int32_t> slots = {};
    std::vector<int32_t> tokens = {};
  };

  Part& part_of(int64_t row) {
    size_t index = parts_.size() - 1;
    while (row < parts_[index].first) --index;
    return parts_[index];
  }

  // To a part, every row is a token of its own, and every r elements of `out` are one of its rows.
  void distribute(
      const int64_t* row_ids, const int32_t* slots, int64_t tokens, int64_t rows_per_slot) {
    for (Part& part : parts_) {
      part.ids.clear();
      part.slots.clear();
      part.tokens.clear();
    }
    const int64_t columns = geometry_.columns();
    for (int64_t i = 0; i < tokens * columns; ++i) {
      ENGRAM_CHECK(row_ids[i] >= 0);
      ENGRAM_CHECK(row_ids[i] < geometry_.rows);
      const int64_t token = i / columns;
      Part& part = part_of(row_ids[i]);
      part.ids.push_back(row_ids[i] - part.first);
      part.slots.push_back(static_cast<int32_t>(slots[token] * rows_per_slot + i % columns));
      part.tokens.push_back(static_cast<int32_t>(token));
    }
  }

  int64_t most_tokens() const override { return most_tokens_; }

  Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed) override {
    const int64_t width = geometry_.row_width;
    ENGRAM_CHECK(out.stride % width == 0);
    const int64_t rows_per_slot = out.stride / width;
    const int64_t out_rows = (out.rows - 1) * rows_per_slot + geometry_.columns();
    ENGRAM_CHECK(out_rows <= std::numeric_limits<int32_t>::max());
    distribute(row_ids, slots, tokens, rows_per_slot);
    Status status;
    bad_tokens_.clear();
    for (Part& part : parts_) {
      if (part.ids.empty()) continue;
      failed_.clear();
      Status of_part = part.store->gather(
          part.ids.data(), part.slots.data(), static_cast<int64_t>(part.ids.size()),
          make_view(out.data, out.dtype, out_rows, width), &failed_);
      for (const int32_t i : failed_) bad_tokens_.push_back(part.tokens[static_cast<size_t>(i)]);
      if (status.ok()) status = std::move(of_part);
    }
    std::sort(bad_tokens_.begin(), bad_tokens_.end());
    const auto end = std::unique(bad_tokens_.begin(), bad_tokens_.end());
    failed->insert(failed->end(), bad_tokens_.begin(), end);
    return status;
  }

  // Atomic: counted by the engine's thread, read by any.
  std::atomic<int64_t> rows_taken_{0};

  // Constant, but for the lists of the parts.
  const TableGeometry geometry_;
  const int64_t most_tokens_;
  std::vector<Part> parts_;

  // The gathering thread, with the lists of the parts.
  std::vector<int32_t> failed_;
  std::vector<int32_t> bad_tokens_;
};

}  // namespace

TableGeometry part_geometry(const TableGeometry& whole, int64_t first, int64_t end) {
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(end >= first);
  ENGRAM_CHECK(end <= whole.rows);
  TableGeometry part = whole;
  part.rows = end - first;
  part.moduli = {part.rows};
  part.offsets = {0};
  part.heads = 1;
  if (!part.orders.empty()) part.orders = {part.orders.back()};
  return part;
}

Result<std::unique_ptr<RowStore>> make_split_row_store(
    TableGeometry geometry, std::vector<RowPart> parts, int64_t max_rows) {
  ENGRAM_CHECK(!parts.empty());
  int64_t next = 0;
  for (const RowPart& part : parts) {
    ENGRAM_CHECK(part.first == next);
    ENGRAM_CHECK(part.store->geometry().columns() == 1);
    ENGRAM_CHECK(part.store->geometry().row_width == geometry.row_width);
    next += part.store->geometry().rows;
    const std::string& version = parts.front().store->version();
    if (part.store->version() != version) {
      return failed_precondition(
          "n-gram table of layer " + std::to_string(geometry.layer) + ": rows from " +
          std::to_string(part.first) + " on are of version " + part.store->version() +
          ", expected " + version);
    }
  }
  ENGRAM_CHECK(next == geometry.rows);
  return std::unique_ptr<RowStore>(
      std::make_unique<SplitRowStore>(std::move(geometry), std::move(parts), max_rows));
}

}  // namespace engram::memory

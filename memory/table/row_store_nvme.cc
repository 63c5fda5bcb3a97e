#include "memory/table/row_store_nvme.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/table/block_reader.h"
#include "memory/table/row_cache.h"
#include "memory/table/row_decode.h"

namespace engram::memory {
namespace {

constexpr int64_t kBlock = 4096;
constexpr int kMostDepth = 4096;
constexpr int64_t kMostStaged = int64_t{1} << 24;  // rows; pieces are counted in 32 bits

std::string table_name(const TableGeometry& geometry) {
  return "n-gram table of layer " + std::to_string(geometry.layer);
}

// How a row lies in its files and in a slot of the cache.
struct RowShape {
  bool one_piece = false;
  int64_t value_bytes = 0;
  int64_t scale_bytes = 0;
  int64_t scale_at = 0;  // in the slot
  int64_t slot_bytes = 0;
  int64_t block = kBlock;
  int64_t most_blocks = 0;  // of one piece, in bytes
};

RowShape make_shape(const TableGeometry& geometry, const FileRows& rows) {
  RowShape shape;
  shape.value_bytes = geometry.value_bytes();
  shape.scale_bytes = geometry.scale_bytes();
  const FileSection& values = rows.values;
  const FileSection& scales = rows.scales;
  const int64_t apart = scales.offset - values.offset;
  shape.one_piece = shape.scale_bytes == 0 ||
                    (scales.file == values.file && scales.stride == values.stride &&
                     apart >= shape.value_bytes && apart + shape.scale_bytes <= values.stride);
  shape.scale_at = shape.one_piece && shape.scale_bytes > 0 ? apart : shape.value_bytes;
  shape.slot_bytes = shape.scale_at + shape.scale_bytes;
  shape.block = std::max(kBlock, values.file->alignment());
  if (!shape.one_piece) shape.block = std::max(shape.block, scales.file->alignment());
  const int64_t longest = shape.one_piece ? shape.slot_bytes : shape.value_bytes;
  // A piece may begin at the last byte of a block.
  shape.most_blocks = (longest + shape.block - 2) / shape.block * shape.block + shape.block;
  return shape;
}

Status check_section(
    const TableGeometry& geometry,
    const FileSection& section,
    const char* part,
    int64_t row_bytes,
    int64_t block) {
  const std::string name = table_name(geometry) + ", " + part + " in " + section.file->path();
  if (section.offset < 0 || section.stride < row_bytes) {
    return invalid_argument(
        name + ": rows of " + std::to_string(row_bytes) + " bytes cannot be " +
        std::to_string(section.stride) + " bytes apart from byte " +
        std::to_string(section.offset) + " on");
  }
  const int64_t last = section.offset + (geometry.rows - 1) * section.stride + row_bytes;
  const int64_t needed = (last + block - 1) / block * block;
  if (geometry.rows > 0 && needed > section.file->bytes()) {
    return invalid_argument(
        name + ": reading whole blocks of " + std::to_string(block) + " bytes needs " +
        std::to_string(needed) + " bytes, the file has " + std::to_string(section.file->bytes()));
  }
  return {};
}

// A failed row must not look like numbers, should anyone read it all the same.
void poison(View out, int32_t slot) {
  with_activation_type(out.dtype, [&]<typename T>(Type<T>) {
    std::fill_n(
        out.row<T>(slot), out.cols, static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
  });
}

class FileRowStore : public NvmeRowStore {
 public:
  FileRowStore(
      TableGeometry geometry,
      FileRows rows,
      const RowShape& shape,
      const NvmeOptions& options,
      RowCache cache,
      std::unique_ptr<BlockReader> reader);

  const TableGeometry& geometry() const override { return geometry_; }
  std::string version() const override { return rows_.version; }
  std::string placement() const override;
  RowStoreStats stats() const override;
  NvmeStats nvme_stats() const override;
  int64_t memory_bytes() const override {
    return cache_.memory_bytes() + reader_->memory_bytes() +
           static_cast<int64_t>(
               refs_.capacity() * sizeof(Ref) + slots_.capacity() * sizeof(int64_t) +
               missed_.capacity() * sizeof(Missed) + pieces_.capacity() * sizeof(FilePiece) +
               reads_.capacity() * sizeof(BlockRead));
  }

 private:
  struct Ref {
    int64_t row = 0;
    int32_t index = 0;  // in row_ids of this part
  };
  struct Missed {
    int64_t row = 0;
    int64_t refs = 0;  // how often this part asks for it
    bool failed = false;
  };

  Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed) override;
  int64_t most_tokens() const override { return most_tokens_; }
  void find_rows(const int64_t* row_ids, int64_t count);
  void plan_reads();
  void add_pieces(const FileSection& section, int64_t slot_offset, int64_t bytes);
  Status read_rows();
  void report_failed(const int32_t* slots, int64_t tokens, View out, std::vector<int32_t>* failed);
  void publish(int64_t rows);
  int64_t spare(size_t missed) const { return cache_.capacity() + static_cast<int64_t>(missed); }

  // Constant.
  const TableGeometry geometry_;
  const FileRows rows_;
  const RowShape shape_;
  const BlockRules rules_;
  const int64_t most_tokens_;
  TableGeometry slot_geometry_;  // the slots of the cache as a table

  // The gathering thread.
  RowCache cache_;
  const std::unique_ptr<BlockReader> reader_;
  std::vector<Ref> refs_;
  std::vector<int64_t> slots_;  // of row_ids, in the cache's array
  std::vector<Missed> missed_;  // ascending; missed_[i] lies in spare(i)
  std::vector<FilePiece> pieces_;
  std::vector<BlockRead> reads_;
  std::vector<int32_t> failed_rows_;
  NvmeStats counted_;

  // Guarded by mu_.
  mutable std::mutex mu_;
  NvmeStats published_;
};

FileRowStore::FileRowStore(
    TableGeometry geometry,
    FileRows rows,
    const RowShape& shape,
    const NvmeOptions& options,
    RowCache cache,
    std::unique_ptr<BlockReader> reader)
    : geometry_(std::move(geometry)),
      rows_(std::move(rows)),
      shape_(shape),
      rules_{
          .block = shape.block,
          .largest = std::max(options.largest_read, shape.most_blocks),
          .gap = options.read_gap},
      most_tokens_((cache.slots() - cache.capacity()) / geometry_.columns()),
      slot_geometry_(geometry_),
      cache_(std::move(cache)),
      reader_(std::move(reader)) {
  slot_geometry_.rows = cache_.slots();
  const size_t most = static_cast<size_t>(most_tokens_ * geometry_.columns());
  const size_t pieces = shape_.one_piece ? most : 2 * most;
  refs_.reserve(most);
  slots_.resize(most);
  missed_.reserve(most);
  pieces_.reserve(pieces);
  reads_.reserve(pieces);
  failed_rows_.reserve(pieces);
}

std::string FileRowStore::placement() const {
  std::string text = "nvme, " + std::string(rows_.values.file->direct() ? "direct" : "buffered") +
                     ", " + reader_->queue().name() + " depth " +
                     std::to_string(reader_->queue().depth());
  if (cache_.capacity() > 0) {
    text += ", " + format_bytes(cache_.capacity() * cache_.row_bytes()) + " row cache";
  }
  return text;
}

RowStoreStats FileRowStore::stats() const {
  const std::lock_guard<std::mutex> lock(mu_);
  RowStoreStats stats;
  stats.rows_read = published_.rows;
  stats.bytes_read = published_.rows * (shape_.value_bytes + shape_.scale_bytes);
  stats.cache_hits = published_.cache_hits;
  stats.cache_misses = published_.cache_misses;
  stats.file_reads = published_.reads;
  stats.file_bytes = published_.bytes;
  stats.failed_rows = published_.failed_rows;
  return stats;
}

NvmeStats FileRowStore::nvme_stats() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return published_;
}

Status FileRowStore::do_gather(
    const int64_t* row_ids,
    const int32_t* slots,
    int64_t tokens,
    View out,
    std::vector<int32_t>* failed) {
  const int64_t count = tokens * geometry_.columns();
  find_rows(row_ids, count);
  plan_reads();
  Status status = read_rows();
  uint8_t* data = cache_.data();
  decode_rows(
      {.geometry = &slot_geometry_,
       .place =
           {.values = data,
            .scales = shape_.scale_bytes > 0 ? data + shape_.scale_at : nullptr,
            .value_stride = shape_.slot_bytes,
            .scale_stride = shape_.scale_bytes > 0 ? shape_.slot_bytes : 0},
       .ids = slots_.data(),
       .slots = slots,
       .tokens = tokens,
       .out = out});
  // Only now: an insert may evict a row that this gather found.
  for (size_t i = 0; i < missed_.size(); ++i) {
    if (!missed_[i].failed) cache_.insert(missed_[i].row, spare(i));
  }
  if (!status.ok()) report_failed(slots, tokens, out, failed);
  publish(count);
  return status;
}

// Fills slots_: where each row asked for is, or will be once missed_ is read.
void FileRowStore::find_rows(const int64_t* row_ids, int64_t count) {
  refs_.clear();
  missed_.clear();
  for (int64_t i = 0; i < count; ++i) {
    ENGRAM_CHECK(row_ids[i] >= 0);
    ENGRAM_CHECK(row_ids[i] < geometry_.rows);
    refs_.push_back({row_ids[i], static_cast<int32_t>(i)});
  }
  std::sort(refs_.begin(), refs_.end(), [](const Ref& a, const Ref& b) { return a.row < b.row; });
  int64_t slot = -1;
  bool missed = false;
  for (size_t i = 0; i < refs_.size(); ++i) {
    if (i == 0 || refs_[i].row != refs_[i - 1].row) {
      ++counted_.distinct_rows;
      slot = cache_.find(refs_[i].row);
      missed = slot < 0;
      if (missed) {
        slot = spare(missed_.size());
        missed_.push_back({.row = refs_[i].row});
      }
    }
    if (missed) ++missed_.back().refs;
    slots_[static_cast<size_t>(refs_[i].index)] = slot;
  }
}

void FileRowStore::plan_reads() {
  pieces_.clear();
  reads_.clear();
  add_pieces(rows_.values, 0, shape_.one_piece ? shape_.slot_bytes : shape_.value_bytes);
  if (!shape_.one_piece) add_pieces(rows_.scales, shape_.scale_at, shape_.scale_bytes);
}

void FileRowStore::add_pieces(const FileSection& section, int64_t slot_offset, int64_t bytes) {
  const int32_t first = static_cast<int32_t>(pieces_.size());
  for (size_t i = 0; i < missed_.size(); ++i) {
    const int64_t offset = section.offset + missed_[i].row * section.stride;
    pieces_.push_back(
        {.offset = offset,
         .bytes = bytes,
         .to = cache_.data() + spare(i) * cache_.row_bytes() + slot_offset,
         .owner = static_cast<int32_t>(i)});
    const int64_t blocks = (offset + bytes - 1) / rules_.block - offset / rules_.block + 1;
    counted_.row_blocks += missed_[i].refs * blocks;
  }
  const int32_t end = static_cast<int32_t>(pieces_.size());
  plan_block_reads(*section.file, rules_, pieces_, first, end, &reads_);
}

Status FileRowStore::read_rows() {
  failed_rows_.clear();
  const Status status = reader_->read(reads_, pieces_, &failed_rows_);
  if (status.ok()) return status;
  for (const int32_t i : failed_rows_) missed_[static_cast<size_t>(i)].failed = true;
  const int64_t row = missed_[static_cast<size_t>(failed_rows_.front())].row;
  // A system without memory may have some later; bytes that cannot be read twice are lost.
  const Code code = status.code() == Code::kUnavailable ? Code::kUnavailable : Code::kDataLoss;
  return {code, table_name(geometry_) + ", row " + std::to_string(row) + ": " + status.message()};
}

void FileRowStore::report_failed(
    const int32_t* slots, int64_t tokens, View out, std::vector<int32_t>* failed) {
  for (const Missed& missed : missed_) counted_.failed_rows += missed.failed ? 1 : 0;
  const int64_t columns = geometry_.columns();
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t* of_token = slots_.data() + t * columns;
    const bool bad = std::any_of(of_token, of_token + columns, [this](int64_t slot) {
      return slot >= cache_.capacity() &&
             missed_[static_cast<size_t>(slot - cache_.capacity())].failed;
    });
    if (!bad) continue;
    failed->push_back(static_cast<int32_t>(t));
    poison(out, slots[t]);
  }
}

void FileRowStore::publish(int64_t rows) {
  counted_.rows += rows;
  const RowCacheStats cache = cache_.stats();
  counted_.cache_hits = cache.hits;
  counted_.cache_misses = counted_.distinct_rows - cache.hits;
  counted_.cache_evicted = cache.evicted;
  const BlockReaderStats& reader = reader_->stats();
  counted_.reads = reader.reads;
  counted_.bytes = reader.bytes;
  counted_.blocks = reader.bytes / rules_.block;
  counted_.retries = reader.retries;
  counted_.most_in_flight = reader.most_in_flight;
  const std::lock_guard<std::mutex> lock(mu_);
  published_ = counted_;
}

}  // namespace

double NvmeStats::cache_hit_share() const {
  return distinct_rows == 0 ? 0.
                            : static_cast<double>(cache_hits) / static_cast<double>(distinct_rows);
}

double NvmeStats::deduplicated_share() const {
  if (row_blocks == 0) return 0.;
  return std::max(0., 1. - static_cast<double>(blocks) / static_cast<double>(row_blocks));
}

Result<FileRows> open_file_rows(const TableFile& table, int64_t first, int64_t end) {
  const TableHeader& header = table.header();
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(end >= first);
  ENGRAM_CHECK(end <= header.geometry.rows);
  Result<DirectFile> opened = table.open_direct();
  if (!opened.ok()) return opened.status();
  const auto file = std::make_shared<const DirectFile>(std::move(opened).value());
  if (file->bytes() != header.file_bytes()) {
    return data_loss(
        table.path() + ": has " + std::to_string(file->bytes()) + " bytes, expected " +
        std::to_string(header.file_bytes()) + "; it changed while it was being opened");
  }
  FileRows rows;
  rows.version = header.id;
  rows.values = {
      .file = file,
      .offset = header.data_offset + header.values_at + first * header.value_stride,
      .stride = header.value_stride};
  if (header.geometry.scale_bytes() > 0) {
    rows.scales = {
        .file = file,
        .offset = header.data_offset + header.scales_at + first * header.scale_stride,
        .stride = header.scale_stride};
  }
  return rows;
}

Result<std::unique_ptr<NvmeRowStore>> make_nvme_row_store_on(
    std::unique_ptr<ReadQueue> queue,
    TableGeometry geometry,
    FileRows rows,
    const NvmeOptions& options) {
  ENGRAM_RETURN_IF_ERROR(check_codec(geometry));
  ENGRAM_CHECK(rows.values.file != nullptr);
  ENGRAM_CHECK(geometry.columns() > 0);
  if (geometry.scale_bytes() > 0) ENGRAM_CHECK(rows.scales.file != nullptr);
  if (options.cache_bytes < 0) {
    return invalid_argument(
        table_name(geometry) + ": a row cache cannot have " + std::to_string(options.cache_bytes) +
        " bytes");
  }
  const RowShape shape = make_shape(geometry, rows);
  ENGRAM_RETURN_IF_ERROR(
      check_section(geometry, rows.values, "values", shape.value_bytes, shape.block));
  if (shape.scale_bytes > 0) {
    ENGRAM_RETURN_IF_ERROR(
        check_section(geometry, rows.scales, "scales", shape.scale_bytes, shape.block));
  }
  const std::string name = table_name(geometry);
  const int64_t columns = geometry.columns();
  const int64_t most_rows = std::min(options.staging_bytes / shape.slot_bytes, kMostStaged);
  const int64_t staged = std::max<int64_t>(1, most_rows / columns) * columns;
  Result<RowCache> cache =
      RowCache::make(name + ", row cache", shape.slot_bytes, options.cache_bytes, staged);
  if (!cache.ok()) return cache.status();
  Result<std::unique_ptr<BlockReader>> reader = BlockReader::make(
      name + ", read buffers", std::move(queue), std::max(options.largest_read, shape.most_blocks),
      shape.one_piece ? staged : 2 * staged);
  if (!reader.ok()) return reader.status();
  return std::unique_ptr<NvmeRowStore>(std::make_unique<FileRowStore>(
      std::move(geometry), std::move(rows), shape, options, std::move(cache).value(),
      std::move(reader).value()));
}

Result<std::unique_ptr<NvmeRowStore>> make_nvme_row_store(
    TableGeometry geometry, FileRows rows, const NvmeOptions& options) {
  if (options.depth < 1 || options.depth > kMostDepth) {
    return invalid_argument(
        table_name(geometry) + ": expected 1 to " + std::to_string(kMostDepth) +
        " reads in flight, found " + std::to_string(options.depth));
  }
  Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(options.backend, options.depth);
  if (!queue.ok()) return queue.status();
  return make_nvme_row_store_on(
      std::move(queue).value(), std::move(geometry), std::move(rows), options);
}

}  // namespace engram::memory

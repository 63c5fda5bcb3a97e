#include "memory/table/row_reader.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace engram::memory {
namespace {

constexpr int64_t kMostRunBlocks = 64;

int64_t blocks_touched(int64_t bytes) {
  return bytes == 0 ? 0 : (bytes + kTableBlock - 2) / kTableBlock + 1;
}

}  // namespace

RowReader::RowReader(
    std::shared_ptr<const TableFile> file, DirectFile source, std::unique_ptr<ReadQueue> queue)
    : file_(std::move(file)),
      source_(std::move(source)),
      staging_(nullptr, std::free),
      queue_(std::move(queue)) {}

Result<std::unique_ptr<RowReader>> RowReader::make(
    std::shared_ptr<const TableFile> file, std::unique_ptr<ReadQueue> queue) {
  Result<DirectFile> source = file->open_direct();
  if (!source.ok()) return source.status();
  return std::unique_ptr<RowReader>(
      new RowReader(std::move(file), std::move(source).value(), std::move(queue)));
}

int64_t RowReader::row_blocks() const {
  const TableGeometry& g = file_->header().geometry;
  return blocks_touched(g.value_bytes()) + blocks_touched(g.scale_bytes());
}

RowReader::Range RowReader::values_of(int64_t row) const {
  const TableHeader& header = file_->header();
  return {header.values_at + row * header.value_stride, header.geometry.value_bytes()};
}

RowReader::Range RowReader::scales_of(int64_t row) const {
  const TableHeader& header = file_->header();
  return {header.scales_at + row * header.scale_stride, header.geometry.scale_bytes()};
}

void RowReader::need(const Range& range) {
  if (range.bytes == 0) return;
  const int64_t last = (range.begin + range.bytes - 1) / kTableBlock;
  for (int64_t block = range.begin / kTableBlock; block <= last; ++block) blocks_.push_back(block);
}

Status RowReader::read(std::span<FileRow> rows) {
  blocks_.clear();
  for (const FileRow& row : rows) {
    ENGRAM_CHECK(row.row >= 0);
    ENGRAM_CHECK(row.row < file_->header().geometry.rows);
    need(values_of(row.row));
    need(scales_of(row.row));
  }
  plan();
  const int64_t blocks = static_cast<int64_t>(blocks_.size());
  if (blocks > staging_blocks_) {
    staging_.reset(static_cast<uint8_t*>(
        std::aligned_alloc(kTableBlock, static_cast<size_t>(blocks * kTableBlock))));
    staging_blocks_ = staging_ != nullptr ? blocks : 0;
  }
  if (blocks > staging_blocks_) {
    for (FileRow& row : rows) row.values = row.scales = nullptr;
    return unavailable(
        file_->path() + ": no memory to read " + std::to_string(blocks) + " blocks into");
  }
  const Status status = read_runs();
  for (FileRow& row : rows) {
    row.values = find(values_of(row.row));
    const Range scales = scales_of(row.row);
    row.scales = scales.bytes > 0 ? find(scales) : nullptr;
    if (scales.bytes > 0 && row.scales == nullptr) row.values = nullptr;
  }
  stats_.rows += static_cast<int64_t>(rows.size());
  return status;
}

void RowReader::plan() {
  std::sort(blocks_.begin(), blocks_.end());
  blocks_.erase(std::unique(blocks_.begin(), blocks_.end()), blocks_.end());
  runs_.clear();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    const bool joins =
        i > 0 && blocks_[i] == blocks_[i - 1] + 1 && runs_.back().count < kMostRunBlocks;
    if (joins) {
      ++runs_.back().count;
    } else {
      runs_.push_back({.first = static_cast<int64_t>(i), .count = 1});
    }
  }
  stats_.blocks += static_cast<int64_t>(blocks_.size());
  stats_.reads += static_cast<int64_t>(runs_.size());
}

Status RowReader::read_runs() {
  for (size_t i = 0; i < runs_.size(); ++i) {
    const int64_t block = blocks_[static_cast<size_t>(runs_[i].first)];
    queue_->submit({
        .file = &source_,
        .offset = file_->header().data_offset + block * kTableBlock,
        .bytes = runs_[i].count * kTableBlock,
        .to = staging_.get() + runs_[i].first * kTableBlock,
        .tag = i,
    });
  }
  done_.clear();
  queue_->wait(queue_->outstanding(), &done_);
  Status first;
  for (const ReadDone& done : done_) {
    if (done.status.ok()) continue;
    runs_[done.tag].failed = true;
    if (first.ok()) first = done.status;
  }
  return first;
}

// Blocks that follow each other in the file follow each other in staging_ too, so a row lies there
// in one piece. Null when one of its blocks was not read.
const uint8_t* RowReader::find(const Range& range) const {
  const int64_t block = range.begin / kTableBlock;
  const int64_t last = (range.begin + range.bytes - 1) / kTableBlock;
  const int64_t index = std::lower_bound(blocks_.begin(), blocks_.end(), block) - blocks_.begin();
  auto run = std::upper_bound(
      runs_.begin(), runs_.end(), index, [](int64_t i, const Run& r) { return i < r.first; });
  for (--run; run != runs_.end() && run->first <= index + (last - block); ++run) {
    if (run->failed) return nullptr;
  }
  return staging_.get() + index * kTableBlock + range.begin % kTableBlock;
}

}  // namespace engram::memory

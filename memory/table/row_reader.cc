#include "memory/table/row_reader.h"

#include <algorithm>
#include <string>
#include <utility>

namespace engram::memory {

RowReader::RowReader(
    std::shared_ptr<const TableFile> file,
    DirectFile source,
    const BlockRules& rules,
    std::unique_ptr<BlockReader> reader)
    : file_(std::move(file)),
      source_(std::move(source)),
      rules_(rules),
      value_bytes_(file_->header().geometry.value_bytes()),
      scale_bytes_(file_->header().geometry.scale_bytes()),
      reader_(std::move(reader)) {}

Result<std::unique_ptr<RowReader>> RowReader::make(
    std::shared_ptr<const TableFile> file, std::unique_ptr<ReadQueue> queue) {
  Result<DirectFile> source = file->open_direct();
  if (!source.ok()) return source.status();
  BlockRules rules{.block = source.value().alignment()};
  const TableGeometry& g = file->header().geometry;
  // A piece may begin at the last byte of a block.
  const int64_t blocks = (std::max(g.value_bytes(), g.scale_bytes()) - 2) / rules.block + 2;
  rules.largest = std::max(rules.largest, blocks * rules.block);
  Result<std::unique_ptr<BlockReader>> reader = BlockReader::make(
      "buffers to read rows of layer " + std::to_string(g.layer), std::move(queue), rules.largest,
      0);
  if (!reader.ok()) return reader.status();
  return std::unique_ptr<RowReader>(
      new RowReader(std::move(file), std::move(source).value(), rules, std::move(reader).value()));
}

Status RowReader::read(std::span<FileRow> rows) {
  const TableHeader& header = file_->header();
  staging_.resize(std::max(staging_.size(), rows.size() * static_cast<size_t>(row_bytes())));
  pieces_.clear();
  uint8_t* to = staging_.data();
  for (size_t i = 0; i < rows.size(); ++i, to += row_bytes()) {
    const int64_t row = rows[i].row;
    ENGRAM_CHECK(row >= 0);
    ENGRAM_CHECK(row < header.geometry.rows);
    rows[i].values = to;
    rows[i].scales = scale_bytes_ > 0 ? to + value_bytes_ : nullptr;
    const int32_t owner = static_cast<int32_t>(i);
    const int64_t values_at = header.data_offset + header.values_at + row * header.value_stride;
    pieces_.push_back({.offset = values_at, .bytes = value_bytes_, .to = to, .owner = owner});
    if (scale_bytes_ == 0) continue;
    const int64_t scales_at = header.data_offset + header.scales_at + row * header.scale_stride;
    pieces_.push_back(
        {.offset = scales_at, .bytes = scale_bytes_, .to = to + value_bytes_, .owner = owner});
  }
  std::sort(pieces_.begin(), pieces_.end(), [](const FilePiece& a, const FilePiece& b) {
    return a.offset < b.offset;
  });
  reads_.clear();
  plan_block_reads(source_, rules_, pieces_, 0, static_cast<int32_t>(pieces_.size()), &reads_);
  failed_.clear();
  const Status status = reader_->read(reads_, pieces_, &failed_);
  for (const int32_t owner : failed_) {
    rows[static_cast<size_t>(owner)].values = nullptr;
    rows[static_cast<size_t>(owner)].scales = nullptr;
  }
  return status;
}

}  // namespace engram::memory

#include "memory/table/block_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "memory/device/host_memory.h"

namespace engram::memory {
namespace {

constexpr int64_t kBufferAlignment = 4096;

int64_t round_down(int64_t value, int64_t multiple) {
  return value / multiple * multiple;
}
int64_t round_up(int64_t value, int64_t multiple) {
  return round_down(value + multiple - 1, multiple);
}

}  // namespace

void plan_block_reads(
    const DirectFile& file,
    const BlockRules& rules,
    std::span<const FilePiece> pieces,
    int32_t first,
    int32_t end,
    std::vector<BlockRead>* reads) {
  const size_t before = reads->size();
  for (int32_t i = first; i < end; ++i) {
    const FilePiece& piece = pieces[static_cast<size_t>(i)];
    const int64_t begin = round_down(piece.offset, rules.block);
    const int64_t stop = round_up(piece.offset + piece.bytes, rules.block);
    ENGRAM_CHECK(stop - begin <= rules.largest);
    if (reads->size() > before) {
      BlockRead& last = reads->back();
      ENGRAM_CHECK(begin >= last.offset);
      const int64_t last_end = last.offset + last.bytes;
      const bool near = begin <= last_end + rules.gap;
      if (near && stop - last.offset <= rules.largest) {
        last.bytes = std::max(last_end, stop) - last.offset;
        last.end_piece = i + 1;
        continue;
      }
    }
    reads->push_back(
        {.file = &file,
         .offset = begin,
         .bytes = stop - begin,
         .first_piece = i,
         .end_piece = i + 1});
  }
}

Result<std::unique_ptr<BlockReader>> BlockReader::make(
    const std::string& what,
    std::unique_ptr<ReadQueue> queue,
    int64_t largest,
    int64_t most_pieces) {
  ENGRAM_CHECK(largest > 0);
  largest = round_up(largest, kBufferAlignment);
  Result<Buffer> buffers = allocate_host(what, queue->depth() * largest + kBufferAlignment);
  if (!buffers.ok()) return buffers.status();
  return std::unique_ptr<BlockReader>(
      new BlockReader(std::move(queue), largest, most_pieces, std::move(buffers).value()));
}

BlockReader::BlockReader(
    std::unique_ptr<ReadQueue> queue, int64_t largest, int64_t most_pieces, Buffer buffers)
    : queue_(std::move(queue)), largest_(largest), buffers_(std::move(buffers)) {
  const int64_t address = reinterpret_cast<int64_t>(buffers_.data());
  uint8_t* begin = buffers_.as<uint8_t>() + (round_up(address, kBufferAlignment) - address);
  const size_t depth = static_cast<size_t>(queue_->depth());
  flights_.resize(depth);
  for (size_t i = 0; i < depth; ++i) {
    flights_[i].buffer = begin + static_cast<int64_t>(i) * largest_;
    free_.push_back(depth - 1 - i);
  }
  again_.reserve(static_cast<size_t>(most_pieces));
  done_.reserve(depth);
}

Status BlockReader::read(
    std::span<const BlockRead> reads,
    std::span<const FilePiece> pieces,
    std::vector<int32_t>* failed_owners) {
  status_ = {};
  failed_owners_ = failed_owners;
  size_t next = 0;
  while (next < reads.size() || !again_.empty() || queue_->outstanding() > 0) {
    while (!free_.empty() && next < reads.size()) start(reads[next++], false);
    while (!free_.empty() && !again_.empty()) {
      const BlockRead read = again_.back();
      again_.pop_back();
      start(read, true);
    }
    const bool more = next < reads.size() || !again_.empty();
    const int64_t in_flight = queue_->outstanding();
    stats_.most_in_flight = std::max(stats_.most_in_flight, in_flight);
    done_.clear();
    queue_->wait(more ? (in_flight + 3) / 4 : in_flight, &done_);
    for (const ReadDone& done : done_) finish(done, pieces);
  }
  return status_;
}

void BlockReader::start(const BlockRead& read, bool repeated) {
  ENGRAM_CHECK(read.bytes <= largest_);
  const size_t index = free_.back();
  free_.pop_back();
  Flight& flight = flights_[index];
  flight.read = read;
  flight.repeated = repeated;
  ++stats_.reads;
  stats_.bytes += read.bytes;
  queue_->submit(
      {.file = read.file,
       .offset = read.offset,
       .bytes = read.bytes,
       .to = flight.buffer,
       .tag = index});
}

void BlockReader::finish(const ReadDone& done, std::span<const FilePiece> pieces) {
  const Flight& flight = flights_[done.tag];
  const BlockRead& read = flight.read;
  if (done.status.ok()) {
    for (int32_t i = read.first_piece; i < read.end_piece; ++i) {
      const FilePiece& piece = pieces[static_cast<size_t>(i)];
      const uint8_t* from = flight.buffer + (piece.offset - read.offset);
      std::memcpy(piece.to, from, static_cast<size_t>(piece.bytes));
    }
  } else {
    fail(flight, done.status, pieces);
  }
  if (!read.file->direct()) read.file->forget(read.offset, read.bytes);
  free_.push_back(static_cast<size_t>(done.tag));
}

void BlockReader::fail(
    const Flight& flight, const Status& status, std::span<const FilePiece> pieces) {
  const BlockRead& read = flight.read;
  const int64_t block = read.file->alignment();
  for (int32_t i = read.first_piece; i < read.end_piece; ++i) {
    const FilePiece& piece = pieces[static_cast<size_t>(i)];
    if (flight.repeated) {
      if (status_.ok()) status_ = status;
      failed_owners_->push_back(piece.owner);
      ++stats_.failed;
      continue;
    }
    const int64_t begin = round_down(piece.offset, block);
    const int64_t bytes = round_up(piece.offset + piece.bytes, block) - begin;
    again_.push_back(
        {.file = read.file, .offset = begin, .bytes = bytes, .first_piece = i, .end_piece = i + 1});
    ++stats_.retries;
  }
}

}  // namespace engram::memory

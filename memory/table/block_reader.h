// Small pieces of large files by block-wise reads: every block once, blocks side by side in one
// read, many reads in flight. The decision (plan_block_reads) is apart from the doing
// (BlockReader).
//
// How deep: a call that needs fewer reads than the queue takes hands them over all at once, which
// is the shortest time a token can have. A longer call keeps the queue full and asks for answers by
// the quarter of it, so that the device always has the other three quarters to work on. Calls
// follow one another: what must not wait behind a long one is given to another reader (stores of
// different layers have readers of their own), or the long one is made in parts.
//
// One thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"

namespace engram::memory {

// Bytes [offset, offset + bytes) of a file, wanted at `to`.
struct FilePiece {
  int64_t offset = 0;
  int64_t bytes = 0;
  uint8_t* to = nullptr;
  int32_t owner = 0;  // of the caller: what fails together
};

// Whole blocks, and the pieces in them.
struct BlockRead {
  const DirectFile* file = nullptr;
  int64_t offset = 0;
  int64_t bytes = 0;
  int32_t first_piece = 0;
  int32_t end_piece = 0;
};

struct BlockRules {
  int64_t block = 4096;     // of offsets and sizes
  int64_t largest = 32768;  // bytes of one read
  int64_t gap = 0;          // bytes nobody wants that are read rather than starting another read
};

// Appends the reads that bring pieces[first, end), which are sorted by offset and in `file`.
// REQUIRES: the blocks of one piece are at most rules.largest.
void plan_block_reads(
    const DirectFile& file,
    const BlockRules& rules,
    std::span<const FilePiece> pieces,
    int32_t first,
    int32_t end,
    std::vector<BlockRead>* reads);

struct BlockReaderStats {
  int64_t reads = 0;
  int64_t bytes = 0;
  int64_t retries = 0;  // reads made again because one failed
  int64_t failed = 0;   // pieces that could not be read
  int64_t most_in_flight = 0;
};

class BlockReader {
 public:
  // Buffers for every read in flight of at most `largest` bytes, and room to note `most_pieces`
  // failed pieces. `what` names it in errors. RESOURCE_EXHAUSTED when the memory cannot be had.
  static Result<std::unique_ptr<BlockReader>> make(
      const std::string& what,
      std::unique_ptr<ReadQueue> queue,
      int64_t largest,
      int64_t most_pieces);

  // Brings all pieces. A read that fails is repeated once, each of its pieces by itself, so that a
  // bad block takes no neighbours with it. Ok when everything is there; else the first reason, and
  // the owners of missing pieces, possibly more than once.
  Status read(
      std::span<const BlockRead> reads,
      std::span<const FilePiece> pieces,
      std::vector<int32_t>* failed_owners);

  const ReadQueue& queue() const { return *queue_; }
  const BlockReaderStats& stats() const { return stats_; }
  int64_t memory_bytes() const { return buffers_.bytes(); }

 private:
  struct Flight {
    BlockRead read;
    bool repeated = false;
    uint8_t* buffer = nullptr;
  };

  BlockReader(
      std::unique_ptr<ReadQueue> queue, int64_t largest, int64_t most_pieces, Buffer buffers);
  void start(const BlockRead& read, bool repeated);
  void finish(const ReadDone& done, std::span<const FilePiece> pieces);
  void fail(const Flight& flight, const Status& status, std::span<const FilePiece> pieces);

  // Constant.
  const std::unique_ptr<ReadQueue> queue_;
  const int64_t largest_;
  const Buffer buffers_;

  // The one thread.
  std::vector<Flight> flights_;  // [depth]
  std::vector<size_t> free_;     // flights
  std::vector<BlockRead> again_;
  std::vector<ReadDone> done_;
  Status status_;  // of the call being made
  std::vector<int32_t>* failed_owners_ = nullptr;
  BlockReaderStats stats_;
};

}  // namespace engram::memory

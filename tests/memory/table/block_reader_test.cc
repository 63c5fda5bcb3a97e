// Which blocks are read, by examples and by what must hold for any plan; then pieces of a real
// file, with every fault a disk can have.
#include "memory/table/block_reader.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <set>

#include "tests/support/faulty_reads.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kBlock = 4096;

std::vector<BlockRead> plan(const BlockRules& rules, const std::vector<FilePiece>& pieces) {
  static const DirectFile none;
  std::vector<BlockRead> reads;
  plan_block_reads(none, rules, pieces, 0, static_cast<int32_t>(pieces.size()), &reads);
  return reads;
}

// Offset and size of each read, in blocks.
std::vector<std::pair<int64_t, int64_t>> blocks_of(const std::vector<BlockRead>& reads) {
  std::vector<std::pair<int64_t, int64_t>> blocks;
  for (const BlockRead& read : reads) {
    CHECK(read.offset % kBlock == 0);
    CHECK(read.bytes % kBlock == 0);
    blocks.emplace_back(read.offset / kBlock, read.bytes / kBlock);
  }
  return blocks;
}

using Blocks = std::vector<std::pair<int64_t, int64_t>>;

TEST_CASE("pieces of one block are one read", "[block_reader]") {
  CHECK(blocks_of(plan({}, {})).empty());
  CHECK(blocks_of(plan({}, {{0, 264}})) == Blocks{{0, 1}});
  CHECK(blocks_of(plan({}, {{0, 264}, {264, 264}, {3832, 264}})) == Blocks{{0, 1}});
  // Across a boundary, up to one, and from one on.
  CHECK(blocks_of(plan({}, {{4000, 264}})) == Blocks{{0, 2}});
  CHECK(blocks_of(plan({}, {{3832, 264}})) == Blocks{{0, 1}});
  CHECK(blocks_of(plan({}, {{4096, 264}})) == Blocks{{1, 1}});
}

TEST_CASE("blocks side by side are one read, others are not", "[block_reader]") {
  CHECK(blocks_of(plan({}, {{0, 8}, {kBlock, 8}, {2 * kBlock, 8}})) == Blocks{{0, 3}});
  CHECK(blocks_of(plan({}, {{0, 8}, {2 * kBlock, 8}})) == Blocks{{0, 1}, {2, 1}});
  CHECK(blocks_of(plan({.gap = kBlock}, {{0, 8}, {2 * kBlock, 8}})) == Blocks{{0, 3}});
  CHECK(blocks_of(plan({.gap = kBlock}, {{0, 8}, {3 * kBlock, 8}})) == Blocks{{0, 1}, {3, 1}});
  CHECK(
      blocks_of(plan({.largest = 2 * kBlock}, {{0, 8}, {kBlock, 8}, {2 * kBlock, 8}})) ==
      Blocks{{0, 2}, {2, 1}});
  // What crosses into a full read begins the next one.
  CHECK(
      blocks_of(plan({.largest = 2 * kBlock}, {{0, 8}, {kBlock + 4000, 264}})) ==
      Blocks{{0, 1}, {1, 2}});
}

TEST_CASE("every plan brings every piece and no block without one", "[block_reader]") {
  constexpr uint32_t kSeed = 91;
  CAPTURE(kSeed);
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 2000; ++round) {
    CAPTURE(round);
    const BlockRules rules{
        .largest = kBlock * static_cast<int64_t>(3 + random() % 14),
        .gap = kBlock * static_cast<int64_t>(random() % 3)};
    std::vector<FilePiece> pieces;
    const uint64_t span = uint64_t{1} << (10 + random() % 12);
    for (uint64_t i = random() % 60; i > 0; --i) {
      pieces.push_back(
          {.offset = static_cast<int64_t>(random() % span),
           .bytes = 1 + static_cast<int64_t>(random() % 8192)});
    }
    std::sort(pieces.begin(), pieces.end(), [](const FilePiece& a, const FilePiece& b) {
      return a.offset < b.offset;
    });
    const std::vector<BlockRead> reads = plan(rules, pieces);
    std::set<int64_t> wanted;
    int32_t next = 0;
    for (const BlockRead& read : reads) {
      REQUIRE(read.first_piece == next);
      REQUIRE(read.end_piece > read.first_piece);
      REQUIRE(read.bytes <= rules.largest);
      for (next = read.first_piece; next < read.end_piece; ++next) {
        const FilePiece& piece = pieces[static_cast<size_t>(next)];
        REQUIRE(piece.offset >= read.offset);
        REQUIRE(piece.offset + piece.bytes <= read.offset + read.bytes);
        for (int64_t b = piece.offset / kBlock; b * kBlock < piece.offset + piece.bytes; ++b) {
          wanted.insert(b);
        }
      }
    }
    REQUIRE(next == static_cast<int32_t>(pieces.size()));
    // A gap at most before each piece; a block twice at most where a read is full.
    int64_t blocks = 0;
    for (const BlockRead& read : reads) blocks += read.bytes / kBlock;
    CHECK(blocks >= static_cast<int64_t>(wanted.size()));
    if (rules.gap == 0) {
      std::set<int64_t> brought;
      for (const BlockRead& read : reads) {
        for (int64_t b = 0; b < read.bytes / kBlock; ++b) brought.insert(read.offset / kBlock + b);
      }
      CHECK(brought == wanted);
    }
  }
}

// A file of random blocks, and pieces of it all over.
class Pieces {
 public:
  explicit Pieces(uint64_t seed) : random_(seed) {
    contents_.resize(kBlocks * static_cast<size_t>(kBlock));
    for (char& c : contents_) c = static_cast<char>(random_());
    directory_.write("data", contents_);
    Result<DirectFile> file = DirectFile::open(directory_.file("data"));
    REQUIRE(file.ok());
    file_ = std::move(file).value();
  }

  void draw(int count, const BlockRules& rules) {
    bytes_.assign(static_cast<size_t>(count) * kPiece, 0);
    pieces_.clear();
    for (int i = 0; i < count; ++i) {
      const uint64_t offset = random_() % (contents_.size() - kPiece);
      pieces_.push_back({.offset = static_cast<int64_t>(offset), .bytes = kPiece});
    }
    std::sort(pieces_.begin(), pieces_.end(), [](const FilePiece& a, const FilePiece& b) {
      return a.offset < b.offset;
    });
    for (int32_t i = 0; i < count; ++i) {
      pieces_[static_cast<size_t>(i)].to = bytes_.data() + i * kPiece;
      pieces_[static_cast<size_t>(i)].owner = i;
    }
    reads_.clear();
    plan_block_reads(file_, rules, pieces_, 0, count, &reads_);
  }

  Status read(BlockReader& reader) {
    failed_.clear();
    std::vector<int32_t> failed;
    const Status status = reader.read(reads_, pieces_, &failed);
    failed_.insert(failed.begin(), failed.end());
    return status;
  }

  // Pieces that are neither there nor reported.
  int64_t wrong() const {
    int64_t count = 0;
    for (const FilePiece& piece : pieces_) {
      const bool same =
          std::memcmp(
              piece.to, contents_.data() + piece.offset, static_cast<size_t>(piece.bytes)) == 0;
      if (!same && failed_.count(piece.owner) == 0) ++count;
    }
    return count;
  }

  bool touches(int32_t piece, int64_t from, int64_t to) const {
    const FilePiece& p = pieces_[static_cast<size_t>(piece)];
    const int64_t begin = p.offset / kBlock * kBlock;
    const int64_t end = (p.offset + p.bytes + kBlock - 1) / kBlock * kBlock;
    return begin < to && end > from;
  }

  const std::set<int32_t>& failed() const { return failed_; }
  const DirectFile& file() const { return file_; }

  static constexpr int64_t kPiece = 264;
  static constexpr size_t kBlocks = 256;

 private:
  std::mt19937_64 random_;
  std::string contents_;
  tests::TempDirectory directory_;
  DirectFile file_;
  std::vector<uint8_t> bytes_;
  std::vector<FilePiece> pieces_;
  std::vector<BlockRead> reads_;
  std::set<int32_t> failed_;
};

std::unique_ptr<ReadQueue> queue_of(IoBackend backend, int depth) {
  Result<std::unique_ptr<ReadQueue>> queue = make_read_queue(backend, depth);
  REQUIRE(queue.ok());
  return std::move(queue).value();
}

std::unique_ptr<BlockReader> reader_on(std::unique_ptr<ReadQueue> queue) {
  Result<std::unique_ptr<BlockReader>> reader =
      BlockReader::make("test buffers", std::move(queue), 16 * kBlock, 5000);
  REQUIRE(reader.ok());
  return std::move(reader).value();
}

TEST_CASE("pieces are what the file holds", "[block_reader]") {
  constexpr uint64_t kSeed = 92;
  CAPTURE(kSeed);
  Pieces pieces(kSeed);
  for (const IoBackend backend : {IoBackend::kAuto, IoBackend::kThreads}) {
    for (const int depth : {1, 2, 7, 64}) {
      const std::unique_ptr<BlockReader> reader = reader_on(queue_of(backend, depth));
      CAPTURE(reader->queue().name(), depth);
      for (const int count : {0, 1, 24, 300, 5000}) {
        for (const int64_t gap : {int64_t{0}, 2 * kBlock}) {
          CAPTURE(count, gap);
          pieces.draw(count, {.largest = 8 * kBlock, .gap = gap});
          REQUIRE(pieces.read(*reader).ok());
          CHECK(pieces.wrong() == 0);
        }
      }
      CHECK(reader->stats().failed == 0);
      CHECK(reader->stats().retries == 0);
      CHECK(reader->stats().most_in_flight <= depth);
      CHECK(reader->stats().bytes % kBlock == 0);
    }
  }
}

TEST_CASE("a file read through the page cache gives the same", "[block_reader]") {
  constexpr uint64_t kSeed = 93;
  CAPTURE(kSeed);
  Pieces pieces(kSeed);
  Result<DirectFile> buffered = DirectFile::open_buffered(pieces.file().path());
  REQUIRE(buffered.ok());
  const std::unique_ptr<BlockReader> reader = reader_on(queue_of(IoBackend::kAuto, 16));
  std::vector<uint8_t> bytes(264);
  const std::vector<FilePiece> wanted = {{.offset = 4000, .bytes = 264, .to = bytes.data()}};
  std::vector<BlockRead> reads;
  plan_block_reads(buffered.value(), {}, wanted, 0, 1, &reads);
  std::vector<int32_t> failed;
  REQUIRE(reader->read(reads, wanted, &failed).ok());
  pieces.draw(1, {});
  std::vector<uint8_t> expected(264);
  const std::vector<FilePiece> direct = {{.offset = 4000, .bytes = 264, .to = expected.data()}};
  reads.clear();
  plan_block_reads(pieces.file(), {}, direct, 0, 1, &reads);
  REQUIRE(reader->read(reads, direct, &failed).ok());
  CHECK(bytes == expected);
}

TEST_CASE("an error that does not come back is repaired by reading again", "[block_reader]") {
  constexpr uint64_t kSeed = 94;
  CAPTURE(kSeed);
  Pieces pieces(kSeed);
  // Two failures in a row are possible, but they are reported then.
  const std::unique_ptr<BlockReader> reader = reader_on(std::make_unique<tests::FaultyReads>(
      queue_of(IoBackend::kAuto, 32),
      tests::Faults{.seed = kSeed, .pieces = 0.2, .ends = 0.03, .error = 0.03}));
  int64_t calls_that_failed = 0;
  size_t failed = 0;
  for (int round = 0; round < 50; ++round) {
    CAPTURE(round);
    pieces.draw(300, {});
    const Status status = pieces.read(*reader);
    CHECK(status.ok() == pieces.failed().empty());
    CHECK(pieces.wrong() == 0);
    failed += pieces.failed().size();
    if (!status.ok()) ++calls_that_failed;
  }
  CHECK(reader->stats().retries > 500);
  CHECK(reader->stats().failed == static_cast<int64_t>(failed));
  // 6 % of reads fail, 6 % of their repetitions: 0.4 % of 15,000 pieces are left, or 54.
  CHECK(failed < 400);
  CHECK(calls_that_failed > 0);
}

TEST_CASE("a bad block takes exactly its own pieces", "[block_reader]") {
  constexpr uint64_t kSeed = 95;
  CAPTURE(kSeed);
  Pieces pieces(kSeed);
  const int64_t from = 100 * kBlock;
  const int64_t to = 103 * kBlock;
  for (const tests::Faults& faults :
       {tests::Faults{.seed = kSeed, .error = 1., .from = from, .to = to},
        tests::Faults{.seed = kSeed, .ends = 1., .from = from, .to = to}}) {
    const std::unique_ptr<BlockReader> reader =
        reader_on(std::make_unique<tests::FaultyReads>(queue_of(IoBackend::kAuto, 32), faults));
    const Code expected = faults.error > 0. ? Code::kInternal : Code::kDataLoss;
    for (const int count : {300, 5000}) {
      CAPTURE(count, faults.error);
      pieces.draw(count, {.gap = kBlock});
      const Status status = pieces.read(*reader);
      CHECK(status.code() == expected);
      CHECK_THAT(status.message(), Catch::Contains(pieces.file().path()));
      CHECK(pieces.wrong() == 0);
      std::set<int32_t> touched;
      for (int32_t i = 0; i < count; ++i) {
        if (pieces.touches(i, from, to)) touched.insert(i);
      }
      CHECK(pieces.failed() == touched);
      CHECK_FALSE(touched.empty());
    }
  }
}

TEST_CASE("a file that lost its end fails there and only there", "[block_reader]") {
  constexpr uint64_t kSeed = 96;
  CAPTURE(kSeed);
  Pieces pieces(kSeed);
  const std::unique_ptr<BlockReader> reader = reader_on(queue_of(IoBackend::kAuto, 32));
  pieces.draw(2000, {});
  const int64_t cut = 200 * kBlock;
  std::filesystem::resize_file(pieces.file().path(), static_cast<uintmax_t>(cut));
  const Status status = pieces.read(*reader);
  CHECK(status.code() == Code::kDataLoss);
  CHECK(pieces.wrong() == 0);
  std::set<int32_t> touched;
  for (int32_t i = 0; i < 2000; ++i) {
    if (pieces.touches(i, cut, int64_t{1} << 40)) touched.insert(i);
  }
  CHECK(pieces.failed() == touched);
}

TEST_CASE("buffers that cannot be had are refused", "[block_reader]") {
  const Result<std::unique_ptr<BlockReader>> reader =
      BlockReader::make("test buffers", queue_of(IoBackend::kThreads, 64), int64_t{1} << 40, 10);
  REQUIRE_FALSE(reader.ok());
  CHECK(reader.status().code() == Code::kResourceExhausted);
  CHECK_THAT(reader.status().message(), Catch::StartsWith("test buffers"));
}

}  // namespace
}  // namespace engram::memory

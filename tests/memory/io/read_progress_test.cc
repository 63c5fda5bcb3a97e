// The kernel's answers that no healthy disk gives, one by one and at random.
#include "memory/io/read_progress.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <random>
#include <string>

#include "tests/support/aligned_bytes.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kBlock = 4096;

class OneFile {
 public:
  explicit OneFile(int64_t bytes, bool buffered = false) {
    directory_.write("a", std::string(static_cast<size_t>(bytes), 'x'));
    Result<DirectFile> file =
        buffered ? DirectFile::open_buffered(path()) : DirectFile::open(path());
    REQUIRE(file.ok());
    file_ = std::move(file).value();
  }

  std::string path() const { return directory_.file("a"); }
  const DirectFile& file() const { return file_; }
  ReadProgress read(int64_t offset, int64_t bytes, int64_t piece) {
    return {{.file = &file_, .offset = offset, .bytes = bytes, .to = to_.data(), .tag = 7}, piece};
  }
  const void* to() const { return to_.data(); }

 private:
  tests::TempDirectory directory_;
  DirectFile file_;
  tests::AlignedBytes to_{64 * kBlock};
};

TEST_CASE("a read that comes at once is over", "[read_progress]") {
  OneFile file(8 * kBlock);
  ReadProgress read = file.read(kBlock, 2 * kBlock, 1 << 30);
  CHECK(read.offset() == kBlock);
  CHECK(read.bytes() == 2 * kBlock);
  CHECK(read.to() == file.to());
  CHECK(read.descriptor() == file.file().descriptor());
  REQUIRE(read.advance(2 * kBlock));
  CHECK(read.result().status.ok());
  CHECK(read.result().tag == 7);
}

TEST_CASE("pieces are whole blocks and add up", "[read_progress]") {
  OneFile file(8 * kBlock);
  ReadProgress read = file.read(0, 5 * kBlock, 2 * kBlock + 100);
  CHECK(read.bytes() == 2 * kBlock);
  CHECK_FALSE(read.advance(2 * kBlock));
  CHECK_FALSE(read.advance(2 * kBlock));
  CHECK(read.offset() == 4 * kBlock);
  CHECK(read.bytes() == kBlock);
  CHECK(read.advance(kBlock));
  CHECK(read.result().status.ok());
  CHECK(file.read(0, 5 * kBlock, 1).bytes() == kBlock);
}

TEST_CASE("random short and interrupted answers cover every byte", "[read_progress]") {
  for (const bool buffered : {false, true}) {
    OneFile file(64 * kBlock, buffered);
    if (file.file().direct() == buffered) WARN("O_DIRECT is refused here");
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      CAPTURE(buffered, seed);
      std::mt19937_64 random(seed);
      const int64_t from = static_cast<int64_t>(random() % 32) * kBlock;
      const int64_t bytes = static_cast<int64_t>(1 + random() % 32) * kBlock;
      ReadProgress read = file.read(from, bytes, static_cast<int64_t>(1 + random() % 9) * kBlock);
      int64_t covered = 0;  // all bytes below are there
      bool over = false;
      for (int call = 0; !over; ++call) {
        REQUIRE(call < 10000);
        const int64_t at = read.offset() - from;
        // Never a gap, and direct reads start at block boundaries.
        REQUIRE(at <= covered);
        if (file.file().direct()) REQUIRE(at % kBlock == 0);
        REQUIRE(at + read.bytes() <= bytes);
        const uint64_t kind = random() % 4;
        if (kind < 2) {
          over = read.advance(kind == 0 ? -EINTR : -EAGAIN);
          continue;
        }
        const int64_t count =
            kind == 2 ? read.bytes() : static_cast<int64_t>(1 + random() % read.bytes());
        covered = std::max(covered, at + count);
        over = read.advance(count);
      }
      REQUIRE(read.result().status.ok());
      REQUIRE(covered == bytes);
    }
  }
}

TEST_CASE("EIO ends a read with path, offset and reason", "[read_progress]") {
  OneFile file(8 * kBlock);
  ReadProgress read = file.read(0, 4 * kBlock, kBlock);
  CHECK_FALSE(read.advance(kBlock));
  REQUIRE(read.advance(-EIO));
  CHECK(read.result().status.code() == Code::kInternal);
  CHECK(
      read.result().status.message() ==
      file.path() + ": reading 4096 bytes at byte 4096 failed: Input/output error");
}

TEST_CASE(
    "a system without memory, or that says again for ever, is UNAVAILABLE", "[read_progress]") {
  OneFile file(8 * kBlock);
  ReadProgress poor = file.read(0, kBlock, kBlock);
  REQUIRE(poor.advance(-ENOMEM));
  CHECK(poor.result().status.code() == Code::kUnavailable);
  ReadProgress busy = file.read(0, kBlock, kBlock);
  int calls = 1;
  while (!busy.advance(-EAGAIN)) ++calls;
  CHECK(calls == 1000);
  CHECK(busy.result().status.code() == Code::kUnavailable);
}

TEST_CASE("the end of the file is DATA_LOSS and says where", "[read_progress]") {
  for (const bool buffered : {false, true}) {
    CAPTURE(buffered);
    OneFile file(2 * kBlock + 100, buffered);
    ReadProgress read = file.read(0, 4 * kBlock, 1 << 20);
    CHECK_FALSE(read.advance(2 * kBlock + 100));
    // A direct read starts the last block again, a buffered one goes on.
    const int64_t again = file.file().direct() ? 100 : 0;
    CHECK(read.offset() == 2 * kBlock + 100 - again);
    REQUIRE(read.advance(again));
    CHECK(read.result().status.code() == Code::kDataLoss);
    CHECK_THAT(
        read.result().status.message(),
        Catch::Contains(": ended at byte 8292, expected 16384 bytes"));
  }
}

TEST_CASE("a device that stops within a block is no end of file", "[read_progress]") {
  OneFile file(8 * kBlock);
  if (!file.file().direct()) return;  // buffered reads go on at any byte
  ReadProgress read = file.read(0, 4 * kBlock, 1 << 20);
  CHECK_FALSE(read.advance(512));
  CHECK(read.offset() == 0);
  CHECK_FALSE(read.advance(512));
  REQUIRE(read.advance(-EIO));
  CHECK(read.result().status.code() == Code::kInternal);
}

}  // namespace
}  // namespace engram::memory

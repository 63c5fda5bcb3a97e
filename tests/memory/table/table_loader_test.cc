// Loading a table file: exact bytes in every way it can be read, and what happens when it cannot.
#include "memory/table/table_loader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/aligned_bytes.h"
#include "tests/support/bytes.h"
#include "tests/support/faulty_reads.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

constexpr int64_t kExtent = 64 << 10;

// A table file of 1000 to 3000 rows, and memory for it.
class Table {
 public:
  explicit Table(RowCodec codec = RowCodec::kF8Ue8m0, int64_t rows = 3001)
      : file_(tests::write_synthetic_table(
            directory_.file("t.engram"),
            tests::small_geometry(codec, 256, rows, 8),
            RowLayout::kSplit,
            kExtent)),
        memory_(file_->header().data_bytes + kGuard) {}

  const std::shared_ptr<const TableFile>& file() const { return file_; }
  const TableHeader& header() const { return file_->header(); }
  uint8_t* data() const { return memory_.data(); }
  std::string path() const { return file_->path(); }

  Result<std::unique_ptr<TableLoad>> start(LoadOptions options) {
    std::memset(memory_.data(), 0xEE, static_cast<size_t>(memory_.bytes()));
    return TableLoad::start(file_, memory_.data(), std::move(options));
  }

  bool extent_right(int64_t extent) const {
    return file_->check_extent(extent, data() + header().extent_at(extent)).ok();
  }
  bool all_right() const {
    const std::vector<uint8_t> image = tests::synthetic_image(header());
    uint8_t* const end = data() + memory_.bytes();
    return std::memcmp(image.data(), data(), image.size()) == 0 &&
           std::all_of(data() + image.size(), end, [](uint8_t b) { return b == 0xEE; });
  }

 private:
  static constexpr int64_t kGuard = 8192;  // behind the table, never written

  tests::TempDirectory directory_;
  std::shared_ptr<const TableFile> file_;
  tests::AlignedBytes memory_;
};

LoadOptions with_faults(IoBackend backend, const tests::Faults& faults) {
  LoadOptions options{.threads = 2, .backend = backend, .depth = 8, .piece_bytes = 16 << 10};
  auto next = std::make_shared<uint64_t>(0);
  options.make_queue =
      [faults, next](const ReadQueueOptions& wanted) -> Result<std::unique_ptr<ReadQueue>> {
    tests::Faults own = faults;
    own.seed += 1000 * (*next)++;  // each thread has its own bad luck
    return tests::faulty_queue(wanted, own);
  };
  return options;
}

// The backends that can be had here.
std::vector<IoBackend> backends() {
  std::vector<IoBackend> all{IoBackend::kThreads};
  const Result<std::unique_ptr<ReadQueue>> ring = make_read_queue(IoBackend::kUring, 1);
  if (ring.ok()) {
    all.push_back(IoBackend::kUring);
  } else {
    WARN("SKIPPED: " << ring.status().to_string());
  }
  return all;
}

TEST_CASE("a table arrives byte for byte, however it is read", "[table_loader]") {
  for (const RowCodec codec : {RowCodec::kBf16, RowCodec::kF8Ue8m0}) {
    Table table(codec);
    REQUIRE(table.header().data_bytes % kExtent != 0);  // the last extent is shorter
    for (const IoBackend backend : backends()) {
      for (const int threads : {1, 3}) {
        for (const int depth : {1, 7, 64}) {
          for (const int64_t piece : {int64_t{4096}, int64_t{20} << 10, int64_t{8} << 20}) {
            CAPTURE(row_codec_name(codec), int(backend), threads, depth, piece);
            Result<std::unique_ptr<TableLoad>> load = table.start(
                {.threads = threads, .backend = backend, .depth = depth, .piece_bytes = piece});
            REQUIRE(load.ok());
            REQUIRE(load.value()->wait().ok());
            CHECK(load.value()->over());
            CHECK(load.value()->status().ok());
            for (int64_t e = 0; e < table.file()->extents(); ++e) CHECK(load.value()->ready(e));
            CHECK(table.all_right());
            const LoadProgress progress = load.value()->progress();
            CHECK(progress.over);
            CHECK(progress.bytes_done == table.header().data_bytes);
            CHECK(progress.bytes_total == table.header().data_bytes);
            CHECK(progress.seconds_left() == 0.);
            CHECK_THAT(progress.text(), Catch::StartsWith("100 %, "));
          }
        }
      }
    }
  }
}

TEST_CASE("the defaults load, and say how", "[table_loader]") {
  Table table;
  Result<std::unique_ptr<TableLoad>> load = table.start({});
  REQUIRE(load.ok());
  REQUIRE(load.value()->wait().ok());
  CHECK(table.all_right());
  CHECK_THAT(
      load.value()->method(),
      Catch::Contains("threads, direct") || Catch::Contains("threads, through the page cache"));
}

TEST_CASE("an extent is ready only when its bytes are there", "[table_loader]") {
  Table table;
  for (const IoBackend backend : backends()) {
    Result<std::unique_ptr<TableLoad>> load =
        table.start(with_faults(backend, {.seed = 5, .pieces = 0.3, .delay_us_most = 2000}));
    REQUIRE(load.ok());
    std::vector<bool> seen(static_cast<size_t>(table.file()->extents()));
    int64_t before = 0;
    while (!load.value()->over()) {
      for (int64_t e = 0; e < table.file()->extents(); ++e) {
        if (seen[static_cast<size_t>(e)] || !load.value()->ready(e)) continue;
        seen[static_cast<size_t>(e)] = true;
        CHECK(table.extent_right(e));
      }
      const LoadProgress progress = load.value()->progress();
      CHECK(progress.bytes_done >= before);
      CHECK(progress.bytes_done <= progress.bytes_total);
      before = progress.bytes_done;
    }
    CHECK(load.value()->wait().ok());
    CHECK(table.all_right());
  }
}

TEST_CASE("segments are reported in order, whole, once they are there", "[table_loader]") {
  Table table;
  for (const IoBackend backend : backends()) {
    for (const int64_t segment : {int64_t{1}, 3 * kExtent + 5, int64_t{1} << 40}) {
      LoadOptions options = with_faults(backend, {.seed = 6, .delay_us_most = 1000});
      std::vector<std::array<int64_t, 2>> segments;
      int64_t wrong = 0;
      options.segment_bytes = segment;
      options.on_segment = [&](int64_t offset, int64_t bytes) -> Status {
        for (int64_t e = offset / kExtent; e * kExtent < offset + bytes; ++e) {
          wrong += table.extent_right(e) ? 0 : 1;
        }
        segments.push_back({offset, bytes});
        return {};
      };
      Result<std::unique_ptr<TableLoad>> load = table.start(std::move(options));
      REQUIRE(load.ok());
      REQUIRE(load.value()->wait().ok());
      CHECK(wrong == 0);
      int64_t next = 0;
      const int64_t size = std::max(kExtent, segment / kExtent * kExtent);
      for (const auto& [offset, bytes] : segments) {
        CHECK(offset == next);
        next += bytes;
        CHECK((bytes == size || next == table.header().data_bytes));
      }
      CHECK(next == table.header().data_bytes);
    }
  }
}

TEST_CASE("an error of on_segment stops the load and is its result", "[table_loader]") {
  Table table;
  LoadOptions options{.threads = 1, .depth = 1, .piece_bytes = 4096};
  options.segment_bytes = kExtent;
  options.on_segment = [](int64_t offset, int64_t) -> Status {
    if (offset < 2 * kExtent) return {};
    return resource_exhausted("no more locked memory at " + std::to_string(offset));
  };
  Result<std::unique_ptr<TableLoad>> load = table.start(std::move(options));
  REQUIRE(load.ok());
  CHECK(load.value()->wait().code() == Code::kResourceExhausted);
  CHECK(load.value()->wait().message() == "no more locked memory at 131072");
}

TEST_CASE("a corrupt extent is named with file, number and place", "[table_loader]") {
  for (const IoBackend backend : backends()) {
    Table table;
    const int64_t extent = 5;
    tests::flip_bit(table.path(), table.header().data_offset + extent * kExtent + 4321);
    Result<std::unique_ptr<TableLoad>> load = table.start({.threads = 2, .backend = backend});
    REQUIRE(load.ok());
    const Status status = load.value()->wait();
    CHECK(status.code() == Code::kDataLoss);
    const int64_t offset = table.header().data_offset + extent * kExtent;
    CHECK_THAT(
        status.message(), Catch::StartsWith(
                              table.path() + ": extent 5 (bytes " + std::to_string(offset) +
                              " to " + std::to_string(offset + kExtent) + ") is corrupt"));
    CHECK_FALSE(load.value()->ready(extent));
    CHECK(load.value()->status().message() == status.message());
  }
}

TEST_CASE("reads that come in pieces and late change nothing", "[table_loader]") {
  Table table;
  for (const IoBackend backend : backends()) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      CAPTURE(int(backend), seed);
      Result<std::unique_ptr<TableLoad>> load =
          table.start(with_faults(backend, {.seed = seed, .pieces = 0.5, .delay_us_most = 300}));
      REQUIRE(load.ok());
      CHECK(load.value()->wait().ok());
      CHECK(table.all_right());
    }
  }
}

TEST_CASE(
    "read errors, early ends and flipped bits stop the load; nothing wrong is ready",
    "[table_loader]") {
  Table table;
  int stopped = 0;
  for (const IoBackend backend : backends()) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
      tests::Faults faults{.seed = seed, .pieces = 0.2, .delay_us_most = 100};
      Code expected = Code::kOk;
      std::string text;
      if (seed % 3 == 0) {
        faults.error = 0.03;
        expected = Code::kInternal;
        text = "Input/output error";
      } else if (seed % 3 == 1) {
        faults.ends = 0.03;
        expected = Code::kDataLoss;
        text = "ended early";
      } else {
        faults.flip = 0.03;
        expected = Code::kDataLoss;
        text = "is corrupt";
      }
      CAPTURE(int(backend), seed);
      Result<std::unique_ptr<TableLoad>> load = table.start(with_faults(backend, faults));
      REQUIRE(load.ok());
      const Status status = load.value()->wait();
      CAPTURE(status.to_string());
      for (int64_t e = 0; e < table.file()->extents(); ++e) {
        if (load.value()->ready(e)) CHECK(table.extent_right(e));
      }
      if (status.ok()) {
        CHECK(table.all_right());
        continue;
      }
      ++stopped;
      CHECK(status.code() == expected);
      CHECK_THAT(status.message(), Catch::StartsWith(table.path() + ": "));
      CHECK_THAT(status.message(), Catch::Contains(text));
      CHECK(load.value()->over());
    }
  }
  CHECK(stopped >= 20);
}

TEST_CASE("a file that is cut while it is loaded is DATA_LOSS at the cut", "[table_loader]") {
  for (const IoBackend backend : backends()) {
    Table table;
    LoadOptions options = with_faults(backend, {.seed = 3, .delay_us_most = 3000});
    options.depth = 1;
    options.threads = 1;
    Result<std::unique_ptr<TableLoad>> load = table.start(std::move(options));
    REQUIRE(load.ok());
    std::filesystem::resize_file(table.path(), 8 * kExtent + 8192);
    const Status status = load.value()->wait();
    CHECK(status.code() == Code::kDataLoss);
    CHECK_THAT(status.message(), Catch::Contains(": ended at byte 532480, expected "));
    CHECK_FALSE(load.value()->ready(table.file()->extents() - 1));
  }
}

TEST_CASE(
    "a file that was replaced is not mistaken for the one that was opened", "[table_loader]") {
  Table table;
  std::filesystem::remove(table.path());
  std::ofstream(table.path()) << "something else";
  Result<std::unique_ptr<TableLoad>> load = table.start({});
  REQUIRE(load.ok());
  CHECK(load.value()->wait().ok());
  CHECK(table.all_right());
}

TEST_CASE("a load may be given up at any time, and many may wait for it", "[table_loader]") {
  Table table;
  for (const IoBackend backend : backends()) {
    for (int round = 0; round < 20; ++round) {
      Result<std::unique_ptr<TableLoad>> load =
          table.start(with_faults(backend, {.seed = 9, .delay_us_most = 2000}));
      REQUIRE(load.ok());
      std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
      load.value().reset();
      // Nobody writes any more.
      std::memset(table.data(), 0x11, static_cast<size_t>(table.header().data_bytes));
      CHECK(
          std::count(table.data(), table.data() + table.header().data_bytes, 0x11) ==
          table.header().data_bytes);
    }
    Result<std::unique_ptr<TableLoad>> load =
        table.start(with_faults(backend, {.seed = 9, .delay_us_most = 500}));
    REQUIRE(load.ok());
    std::atomic<int> ok{0};
    std::vector<std::thread> waiting;
    for (int i = 0; i < 4; ++i) {
      waiting.emplace_back([&] { ok += load.value()->wait().ok() ? 1 : 0; });
    }
    for (std::thread& thread : waiting) thread.join();
    CHECK(ok == 4);
  }
}

// Pages of the file that are in the page cache; -1 when that cannot be seen.
int64_t cached_pages(const std::string& path, int64_t bytes) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return -1;
  void* map = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ, MAP_SHARED, descriptor, 0);
  ::close(descriptor);
  if (map == MAP_FAILED) return -1;
  std::vector<unsigned char> pages(static_cast<size_t>((bytes + 4095) / 4096));
  const int seen = ::mincore(map, static_cast<size_t>(bytes), pages.data());
  ::munmap(map, static_cast<size_t>(bytes));
  if (seen != 0) return -1;
  return std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; });
}

TEST_CASE("a load leaves no page cache, nor does what was cached disturb it", "[table_loader]") {
  Table table(RowCodec::kBf16, 30000);
  const int64_t bytes = table.header().file_bytes();
  const Result<DirectFile> source = table.file()->open_direct();
  REQUIRE(source.ok());
  if (source.value().in_memory()) {
    WARN("SKIPPED: " << table.path() << " lies in memory, which is its page cache");
    return;
  }
  ::sync();
  for (const IoBackend backend : backends()) {
    source.value().forget(0, 0);
    const Result<DirectFile> buffered = DirectFile::open_buffered(table.path());
    REQUIRE(buffered.ok());
    buffered.value().forget(0, bytes);
    if (cached_pages(table.path(), bytes) != 0) {
      WARN("SKIPPED: pages of " << table.path() << " cannot be dropped from the page cache");
      return;
    }
    Result<std::unique_ptr<TableLoad>> load = table.start({.backend = backend});
    REQUIRE(load.ok());
    REQUIRE(load.value()->wait().ok());
    CHECK(cached_pages(table.path(), bytes) == 0);
    CHECK(table.all_right());
    // Rows that are read one by one leave none either.
    std::vector<uint8_t> row(512);
    for (int64_t i = 0; i < 30000; i += 1000) {
      REQUIRE(table.file()->read_row(i, row.data(), nullptr).ok());
    }
    CHECK(cached_pages(table.path(), bytes) == 0);
  }
}

[[maybe_unused]] int64_t status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

TEST_CASE("a load needs no memory beside the table", "[table_loader]") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  WARN("SKIPPED: sanitizers have memory of their own");
#else
  Table table(RowCodec::kBf16, 200000);  // 100 MiB
  for (const IoBackend backend : backends()) {
    std::ofstream clear("/proc/self/clear_refs");
    clear << "5" << std::flush;  // the peak begins anew
    if (!clear.good()) {
      WARN("SKIPPED: /proc/self/clear_refs cannot be written");
      return;
    }
    const int64_t before = status_bytes("VmRSS");  // all of the table's pages are touched
    Result<std::unique_ptr<TableLoad>> load = table.start({.backend = backend});
    REQUIRE(load.ok());
    REQUIRE(load.value()->wait().ok());
    CHECK(status_bytes("VmHWM") - before < int64_t{16} << 20);
  }
#endif
}

}  // namespace
}  // namespace engram::memory

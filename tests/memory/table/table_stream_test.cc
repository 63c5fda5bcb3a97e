#include "memory/table/table_stream.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>

#include "memory/table/table_file.h"
#include "tests/support/bytes.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

std::unique_ptr<TableWriter> make_writer(
    const std::string& path, const TableGeometry& g, RowLayout layout, int64_t extent_bytes) {
  const TableHeader plan = plan_table(g, layout, extent_bytes, {}).value();
  TableWriterOptions options;
  options.commit_bytes = int64_t{1} << 20;
  return TableWriter::create(path, plan, options).value();
}

StreamOptions threads(int count) {
  StreamOptions options;
  options.threads = count;
  return options;
}

// Counts, and fails or stops at a row.
class WatchedProducer : public RowProducer {
 public:
  explicit WatchedProducer(TableGeometry g) : rows_(std::move(g)) {}

  Status produce(int64_t first, int64_t count, const RowTarget& to) override {
    produced += count;
    if (fail_at >= first && fail_at < first + count)
      return data_loss("row " + std::to_string(first));
    if (stop_at >= first && stop_at < first + count) stop = true;
    return rows_.produce(first, count, to);
  }

  std::atomic<int64_t> produced{0};
  std::atomic<bool> stop{false};
  int64_t fail_at = -1;
  int64_t stop_at = -1;

 private:
  SyntheticProducer rows_;
};

TEST_CASE(
    "a streamed table is the table, whatever codec, layout, extents and threads", "[stream]") {
  const tests::TempDirectory directory;
  for (const RowCodec codec : kRowCodecs) {
    for (const RowLayout layout : {RowLayout::kSplit, RowLayout::kInterleaved}) {
      for (const int64_t extent_bytes : {int64_t{4096}, int64_t{1} << 20}) {
        CAPTURE(row_codec_name(codec), row_layout_name(layout), extent_bytes);
        // Several runs of rows of odd sizes; rows across extents, and gaps between rows.
        const TableGeometry g = tests::small_geometry(codec, 96, 21001, 6);
        tests::write_synthetic_table(directory.file("wanted"), g, layout, extent_bytes);
        const std::string wanted = tests::file_bytes(directory.file("wanted"));
        for (const int count : {1, 3}) {
          auto writer = make_writer(directory.file("t"), g, layout, extent_bytes);
          SyntheticProducer producer(g);
          int64_t done = -1;
          StreamOptions options = threads(count);
          options.on_progress = [&](const StreamProgress& p) {
            CHECK(p.bytes_done >= done);
            CHECK(p.bytes_total == writer->header().data_bytes);
            done = p.bytes_done;
          };
          REQUIRE(stream_rows(&producer, writer.get(), options).ok());
          CHECK(done == writer->header().data_bytes);
          REQUIRE(writer->finish().ok());
          REQUIRE(tests::file_bytes(directory.file("t")) == wanted);
          std::filesystem::remove(directory.file("t"));
        }
        std::filesystem::remove(directory.file("wanted"));
      }
    }
  }
}

TEST_CASE("a stream that failed or was stopped goes on where it was", "[stream]") {
  const tests::TempDirectory directory;
  const RowLayout layout = GENERATE(RowLayout::kSplit, RowLayout::kInterleaved);
  CAPTURE(row_layout_name(layout));
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, 40000, 4);  // 10 MB
  tests::write_synthetic_table(directory.file("wanted"), g, layout, 65536);
  {
    WatchedProducer failing(g);
    failing.fail_at = 30000;
    auto writer = make_writer(directory.file("t"), g, layout, 65536);
    CHECK(stream_rows(&failing, writer.get(), threads(1)).code() == Code::kDataLoss);
  }
  int64_t resumed = 0;
  {
    WatchedProducer stopping(g);
    stopping.stop_at = 36000;
    auto writer = make_writer(directory.file("t"), g, layout, 65536);
    resumed = writer->extents_resumed();
    CHECK(resumed > 50);
    StreamOptions options = threads(1);
    options.stop = &stopping.stop;
    CHECK(stream_rows(&stopping, writer.get(), options).code() == Code::kCancelled);
    CHECK(stopping.produced < g.rows);
  }
  WatchedProducer rest(g);
  auto writer = make_writer(directory.file("t"), g, layout, 65536);
  CHECK(writer->extents_resumed() > resumed);
  REQUIRE(stream_rows(&rest, writer.get(), threads(2)).ok());
  if (layout == RowLayout::kInterleaved) CHECK(rest.produced < g.rows / 2);
  REQUIRE(writer->finish().ok());
  CHECK(tests::file_bytes(directory.file("t")) == tests::file_bytes(directory.file("wanted")));
}

// Peak resident memory of a child process, in bytes above what the process starts with.
int64_t peak_growth(const std::function<bool()>& body) {
  std::cout.flush();
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins now
    const auto peak = [] {
      std::ifstream in("/proc/self/status");
      for (std::string line; std::getline(in, line);) {
        if (line.starts_with("VmHWM:")) return 1024 * std::stoll(line.substr(6));
      }
      return 0LL;
    };
    const int64_t before = peak();
    int64_t growth = body() ? 0 : -1;
    if (growth == 0) growth = peak() - before;
    ::_exit(::write(pipe_ends[1], &growth, sizeof(growth)) == sizeof(growth) ? 0 : 1);
  }
  int64_t growth = -1;
  CHECK(::read(pipe_ends[0], &growth, sizeof(growth)) == sizeof(growth));
  ::close(pipe_ends[0]);
  ::close(pipe_ends[1]);
  int state = 0;
  REQUIRE(::waitpid(child, &state, 0) == child);
  return growth;
}

TEST_CASE("memory stays bounded, whatever the table's size", "[stream]") {
  const tests::TempDirectory directory;
  constexpr int64_t kExtent = int64_t{1} << 20;
  constexpr int kThreads = 2;
  const TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, 400000, 4);  // 100 MB
  const int64_t growth = peak_growth([&] {
    auto writer = make_writer(directory.file("t"), g, RowLayout::kSplit, kExtent);
    SyntheticProducer producer(g);
    return stream_rows(&producer, writer.get(), threads(kThreads)).ok() && writer->finish().ok();
  });
  CAPTURE(growth);
  CHECK(growth >= 0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  std::cout << "memory is not compared: a sanitizer keeps freed memory and shadows of it\n";
#else
  // The extents, a scratch run per thread, and stacks.
  CHECK(growth <= (4 * kThreads + 2) * kExtent + kThreads * (int64_t{2} << 20) + (4 << 20));
#endif
}

}  // namespace
}  // namespace engram::memory

// Writing a table file against the plain sequential write of the same bytes: same directory,
// O_DIRECT where it works, the same threads and block size, reserved and synced at the end
// likewise. Making the rows and checking the file stand beside it.
//
//   TMPDIR=/somewhere table_write_bench [--smoke] [--threads N] [--rounds N]
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/base/checksum.h"
#include "memory/io/file_write.h"
#include "memory/table/synthetic_rows.h"
#include "memory/table/table_check.h"
#include "memory/table/table_stream.h"
#include "tests/bench/bench.h"
#include "tests/support/or_die.h"
#include "tests/support/temp_directory.h"

namespace engram::bench {
namespace {

using memory::Status;
using memory::TableGeometry;
using memory::TableHeader;
using tests::ok_or_die;

// DeepSeek-V4.1-Flash's rows, fewer of them.
TableGeometry geometry(int64_t rows) {
  TableGeometry g;
  g.layer = 1;
  g.orders = {2};
  g.heads = 1;
  g.multipliers = {3, 5};
  g.moduli = {rows};
  g.offsets = {0};
  g.rows = rows;
  g.row_width = 256;
  g.codec = memory::RowCodec::kF8Ue8m0;
  return g;
}

void on_threads(int threads, const std::function<void(int)>& body) {
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) workers.emplace_back(body, i);
  for (std::thread& worker : workers) worker.join();
}

class TableWriting {
 public:
  TableWriting(int64_t rows, int threads)
      : header_(memory::plan_table(
                    geometry(rows), memory::RowLayout::kSplit, memory::kDefaultExtentBytes, {})
                    .value()),
        threads_(threads) {
    for (int i = 0; i < threads; ++i) {
      blocks_.push_back(allocate("block", header_.extent_bytes));
      fill_bytes(blocks_.back().data(), header_.extent_bytes, static_cast<uint64_t>(i));
    }
  }

  int64_t bytes() const { return header_.data_bytes; }

  // The limit: no rows, no checksums, no journal.
  void write_plainly() {
    const std::string path = directory_.file("plain");
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    int descriptor = ::open(path.c_str(), flags | O_DIRECT, 0600);
    if (descriptor < 0) descriptor = ::open(path.c_str(), flags, 0600);
    if (::fallocate(descriptor, 0, 0, header_.file_bytes()) != 0) {
      ok_or_die(memory::write_error(path, "reserving", errno));
    }
    std::atomic<int64_t> next{0};
    on_threads(threads_, [&](int thread) {
      const memory::Buffer& block = blocks_[static_cast<size_t>(thread)];
      for (int64_t e = next++; e < header_.extents(); e = next++) {
        ok_or_die(memory::write_at(
            descriptor, path, block.data(), header_.extent_size(e),
            header_.data_offset + header_.extent_at(e)));
      }
    });
    ok_or_die(memory::sync_data(descriptor, path));
    ::close(descriptor);
    ::unlink(path.c_str());
  }

  void write_table() {
    ::unlink(table().c_str());
    auto writer = memory::TableWriter::create(table(), header_, {});
    ok_or_die(writer.status());
    memory::SyntheticProducer producer(header_.geometry);
    memory::StreamOptions options;
    options.threads = threads_;
    ok_or_die(memory::stream_rows(&producer, writer.value().get(), options));
    ok_or_die(writer.value()->finish().status());
  }

  void make_rows() {
    const int64_t rows = header_.extent_bytes / 264;
    std::atomic<int64_t> next{0};
    on_threads(threads_, [&](int thread) {
      uint8_t* to = blocks_[static_cast<size_t>(thread)].as<uint8_t>();
      for (int64_t first = next.fetch_add(rows); first < header_.geometry.rows;
           first = next.fetch_add(rows)) {
        const int64_t count = std::min(rows, header_.geometry.rows - first);
        memory::make_synthetic_rows(header_.geometry, first, count, to, 256, to + rows * 256, 8);
      }
    });
  }

  void checksum_blocks() {
    std::atomic<int64_t> next{0};
    on_threads(threads_, [&](int thread) {
      const memory::Buffer& block = blocks_[static_cast<size_t>(thread)];
      for (int64_t e = next++; e < header_.extents(); e = next++) {
        sum_ += memory::checksum64(block.data(), header_.extent_size(e));
      }
    });
  }

  void check_table() {
    if (::access(table().c_str(), R_OK) != 0) write_table();
    const auto file = memory::TableFile::open(table());
    ok_or_die(file.status());
    memory::TableCheckOptions options;
    options.threads = threads_;
    const auto corrupt = memory::check_table(*file.value(), options);
    ok_or_die(corrupt.status());
    if (!corrupt.value().empty()) ok_or_die(corrupt.value().front());
  }

 private:
  std::string table() const { return directory_.file("table"); }

  const tests::TempDirectory directory_;
  const TableHeader header_;
  const int threads_;
  std::vector<memory::Buffer> blocks_;
  std::atomic<uint64_t> sum_{0};  // so that the sums are not left out
};

int run(int argc, char** argv) {
  Options options = parse_options(argc, argv);
  if (!options.smoke && options.rounds > 5) options.rounds = 5;
  TableWriting writing(options.smoke ? 20000 : 8000000, options.threads > 0 ? options.threads : 4);
  Suite suite(options);
  suite.add(
      {.name = "plain write", .bytes = writing.bytes(), .run = [&] { writing.write_plainly(); }});
  suite.add(
      {.name = "table write, synthetic rows",
       .bytes = writing.bytes(),
       .peak = Peak::kCase,
       .against = "plain write",
       .run = [&] { writing.write_table(); }});
  suite.add(
      {.name = "table check", .bytes = writing.bytes(), .run = [&] { writing.check_table(); }});
  suite.add({.name = "make rows only", .bytes = writing.bytes(), .peak = Peak::kCopy, .run = [&] {
               writing.make_rows();
             }});
  suite.add({.name = "checksum only", .bytes = writing.bytes(), .peak = Peak::kRead, .run = [&] {
               writing.checksum_blocks();
             }});
  return suite.run();
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

// Loading a table file into memory, beside what the same file and machine can do at best in the
// same run: plain sequential direct reads that throw the bytes away, at the best of several sizes
// and depths, and a memory copy. From a disk and from a RAM-backed file; both backends; what the
// checksum, untouched pages and small pages cost; and the peak memory of the process.
//
//   table_load_bench [--smoke] [--rounds N] [--threads N] [--filter disk|memory]
//
// The files are made below TMPDIR (16 GiB) and /dev/shm (6 GiB) and removed. ENGRAM_BENCH_TABLE
// names a finished table file to load instead of making the first.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/device/device_cpu.h"
#include "memory/table/host_arena.h"
#include "memory/table/table_loader.h"
#include "memory/table/table_stream.h"
#include "memory/table/table_writer.h"
#include "tests/bench/bench.h"
#include "tests/support/or_die.h"

namespace engram::bench {
namespace {

using memory::DirectFile;
using memory::IoBackend;
using memory::Result;
using memory::Status;
using memory::TableFile;
using memory::TableLoad;
using memory::TableMemory;
using tests::ok_or_die;
using tests::value_or_die;

double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0. : values[values.size() / 2];
}

// A file that is removed at the end.
struct Scratch {
  std::string path;
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

std::shared_ptr<const TableFile> make_table(const std::string& path, int64_t bytes) {
  memory::TableGeometry g;
  g.layer = 1;
  g.orders = {2, 3};
  g.heads = 8;
  g.multipliers = {3, 5, 7};
  g.row_width = 128;
  g.codec = memory::RowCodec::kBf16;
  const int64_t column = bytes / g.value_bytes() / 16;
  for (int64_t c = 0; c < 16; ++c) {
    g.moduli.push_back(column);
    g.offsets.push_back(c * column);
  }
  g.rows = 16 * column;
  const memory::TableHeader plan = value_or_die(
      memory::plan_table(g, memory::RowLayout::kSplit, memory::kDefaultExtentBytes, {}));
  const double seconds = seconds_of([&] {
    memory::TableWriterOptions writing;
    writing.replace = true;
    const auto writer = value_or_die(memory::TableWriter::create(path, plan, writing));
    memory::SyntheticProducer producer(g);
    ok_or_die(memory::stream_rows(&producer, writer.get(), memory::StreamOptions()));
    value_or_die(writer->finish());
  });
  std::printf(
      "%s: %s written in %.1f s, %.2f GB/s\n", path.c_str(),
      memory::format_bytes(plan.data_bytes).c_str(), seconds,
      static_cast<double>(plan.data_bytes) / seconds / 1e9);
  return value_or_die(TableFile::open(path));
}

// How a file is read plainly.
struct ReadPlan {
  int threads;
  IoBackend backend;
  int depth;  // of each thread
  int64_t piece_bytes;

  std::string text() const {
    return std::to_string(threads) + " x " + std::to_string(depth) + " reads of " +
           memory::format_bytes(piece_bytes);
  }
};

// Reads [from, from + bytes) in sequence, into memory at `to` or, if that is null, into a few
// buffers again and again. Seconds.
double plain_read(
    const DirectFile& file, int64_t from, int64_t bytes, const ReadPlan& plan, char* to) {
  std::atomic<int64_t> next{from};
  const int64_t end = from + bytes;
  const auto work = [&] {
    const auto queue = value_or_die(memory::make_read_queue(plan.backend, plan.depth));
    const memory::Buffer buffer =
        allocate("read buffers", plan.depth * plan.piece_bytes + memory::kDirectAlignment);
    void* aligned = buffer.data();
    size_t space = static_cast<size_t>(buffer.bytes());
    char* const buffers =
        static_cast<char*>(std::align(memory::kDirectAlignment, 1, aligned, space));
    std::vector<memory::ReadDone> done;
    for (int slot = 0; slot < plan.depth; ++slot) done.push_back({.tag = uint64_t(slot)});
    while (true) {
      for (const memory::ReadDone& one : done) {
        ok_or_die(one.status);
        const int64_t offset = next.fetch_add(plan.piece_bytes);
        if (offset >= end) continue;
        queue->submit({
            .file = &file,
            .offset = offset,
            .bytes = std::min(plan.piece_bytes, end - offset),
            .to = to != nullptr ? to + (offset - from)
                                : buffers + int64_t(one.tag) * plan.piece_bytes,
            .tag = one.tag,
        });
      }
      if (queue->outstanding() == 0) return;
      done.clear();
      queue->wait(1, &done);
    }
  };
  return seconds_of([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < plan.threads; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  });
}

// The plan that reads a stretch of the file fastest; each gets its own stretch, in two turns.
ReadPlan best_plan(const DirectFile& file, int64_t bytes, int threads) {
  std::vector<ReadPlan> plans;
  if (file.in_memory()) {
    for (const int64_t piece : {128, 256, 512, 1024}) {
      plans.push_back({threads, IoBackend::kThreads, 1, piece << 10});
    }
  } else {
    for (const int64_t piece : {256, 512, 1024, 4096, 8192}) {
      for (const int64_t in_flight : {4, 16, 64}) {
        plans.push_back({1, IoBackend::kAuto, static_cast<int>(in_flight), piece << 10});
      }
    }
    for (const int readers : {4, 8, 16}) {
      plans.push_back({readers, IoBackend::kThreads, 1, 256 << 10});
      plans.push_back({readers, IoBackend::kThreads, 1, 512 << 10});
    }
  }
  const int64_t stretch = std::min(bytes / 2, int64_t{256} << 20) / 4096 * 4096;
  std::vector<double> best(plans.size(), 1e9);
  int64_t at = 0;
  for (int turn = 0; turn < 2; ++turn) {
    for (size_t i = 0; i < plans.size(); ++i) {
      best[i] = std::min(best[i], plain_read(file, at, stretch, plans[i], nullptr));
      at = at + 2 * stretch <= bytes ? at + stretch : 0;
    }
  }
  const size_t winner = std::min_element(best.begin(), best.end()) - best.begin();
  for (size_t i = 0; i < plans.size(); ++i) {
    std::printf(
        "  plain, %-24s %6.2f GB/s%s\n", plans[i].text().c_str(),
        static_cast<double>(stretch) / best[i] / 1e9, i == winner ? "  <- best" : "");
  }
  return plans[winner];
}

double copy_rate(memory::CpuWorkers& workers, bool smoke) {
  const int64_t bytes = smoke ? int64_t{4} << 20 : int64_t{512} << 20;
  const memory::Buffer from = allocate("copy", bytes);
  const memory::Buffer to = allocate("copy", bytes);
  fill_bytes(from.data(), bytes, 1);
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, seconds_of([&] {
                      workers.run(bytes >> 20, [&](int64_t part) {
                        std::memcpy(
                            to.as<char>() + (part << 20), from.as<char>() + (part << 20), 1 << 20);
                      });
                    }));
  }
  return static_cast<double>(bytes) / best / 1e9;
}

// Of this process: "VmRSS" now, "VmHWM" at its peak.
int64_t resident_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

// One file, and the cases that are timed on it in turns.
class Source {
 public:
  Source(std::shared_ptr<const TableFile> file, const Options& options, int threads)
      : file_(std::move(file)),
        options_(options),
        threads_(threads),
        source_(value_or_die(file_->open_direct())) {}

  void run(double copy) {
    const int64_t bytes = file_->header().data_bytes;
    std::printf(
        "%s: %s, %s\n", file_->path().c_str(), memory::format_bytes(bytes).c_str(),
        source_.direct() ? "direct" : "through the page cache");
    const ReadPlan plan = best_plan(source_, file_->header().file_bytes(), threads_);
    table_ = memory_of(memory::HugePages::kAuto);
    std::printf("  %s\n", table_.report().text().c_str());
    add("plain, " + plan.text(), [&] { return plain_read(source_, 0, bytes, plan, nullptr); });
    add("plain into the table", [&] {
      return plain_read(
          source_, file_->header().data_offset, bytes, plan,
          reinterpret_cast<char*>(table_.data()));
    });
    add("load, io_uring", [&] { return load(table_.data(), IoBackend::kUring); });
    add("load, threads", [&] { return load(table_.data(), IoBackend::kThreads); });
    if (source_.in_memory()) add_parts();
    for (int round = 0; round < options_.rounds; ++round) {
      for (Case& c : cases_) c.seconds.push_back(c.run());
    }
    const double plain = rate(cases_.front());
    for (const Case& c : cases_) {
      const auto [low, high] = std::minmax_element(c.seconds.begin(), c.seconds.end());
      std::printf(
          "  %-36s %7.2f s  spread %3.0f %%  %6.2f GB/s  %5.3f of plain  %5.3f of copy\n",
          c.name.c_str(), median(c.seconds), 100. * (*high - *low) / median(c.seconds), rate(c),
          rate(c) / plain, rate(c) / copy);
    }
    std::printf(
        "  peak memory of the loads: table + %s; table id %s\n",
        memory::format_bytes(std::max<int64_t>(0, extra_bytes_)).c_str(),
        file_->header().id.c_str());
    std::fflush(stdout);
  }

 private:
  struct Case {
    std::string name;
    std::function<double()> run;
    std::vector<double> seconds = {};
  };

  void add(const std::string& name, std::function<double()> run) {
    cases_.push_back({name, std::move(run)});
  }

  double rate(const Case& c) const {
    return static_cast<double>(file_->header().data_bytes) / median(c.seconds) / 1e9;
  }

  TableMemory memory_of(memory::HugePages huge) const {
    memory::ArenaOptions arena;
    arena.huge = huge;
    arena.threads = threads_;
    return value_or_die(
        memory::allocate_table_memory("table", file_->header().data_bytes, arena, nullptr));
  }

  double load(void* to, IoBackend backend) {
    if (backend == IoBackend::kUring && !memory::make_read_queue(backend, 1).ok()) {
      std::printf("  SKIPPED: io_uring is forbidden here\n");
      return 1e9;
    }
    // The peak begins anew, with all pages of the table touched.
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;
    const int64_t before = resident_bytes("VmRSS");
    double seconds = 0.;
    {
      const auto begin = std::chrono::steady_clock::now();
      const auto load = value_or_die(
          TableLoad::start(file_, to, {.threads = options_.threads, .backend = backend}));
      ok_or_die(load->wait());
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    extra_bytes_ = std::max(extra_bytes_, resident_bytes("VmHWM") - before);
    return seconds;
  }

  // What the load consists of, one by one. From memory, where the disk does not hide it.
  void add_parts() {
    add("checksum of the table in memory", [this] {
      memory::CpuWorkers workers(threads_);
      return seconds_of([&] {
        workers.run(file_->extents(), [&](int64_t extent) {
          ok_or_die(file_->check_extent(extent, table_.data() + file_->header().extent_at(extent)));
        });
      });
    });
    add("load into small pages", [this] {
      table_ = TableMemory();
      const TableMemory small = memory_of(memory::HugePages::kOff);
      return load(small.data(), IoBackend::kAuto);
    });
    add("touch and load huge pages", [this] {
      return seconds_of([&] {
        table_ = memory_of(memory::HugePages::kAuto);
        load(table_.data(), IoBackend::kAuto);
      });
    });
  }

  const std::shared_ptr<const TableFile> file_;
  const Options options_;
  const int threads_;
  const DirectFile source_;
  TableMemory table_;
  std::vector<Case> cases_;
  int64_t extra_bytes_ = 0;
};

int run(int argc, char** argv) {
  Options options = parse_options(argc, argv);
  if (!options.smoke && options.rounds == Options().rounds) options.rounds = 3;
  memory::CpuWorkers workers(options.threads > 0 ? options.threads : memory::usable_cores());
  const double copy = copy_rate(workers, options.smoke);
  std::printf(
      "%d threads, copy %.2f GB/s, median of %d rounds%s\n", workers.threads(), copy,
      options.rounds, options.smoke ? ", smoke size: the rates mean nothing" : "");
  const int64_t small = int64_t{24} << 20;
  const std::string name = "/engram-load-bench-" + std::to_string(::getpid());
  if (std::string("disk").find(options.filter) != std::string::npos) {
    const char* given = std::getenv("ENGRAM_BENCH_TABLE");
    const Scratch scratch{
        given != nullptr ? "" : std::filesystem::temp_directory_path().string() + name};
    Source(
        given != nullptr ? value_or_die(TableFile::open(given))
                         : make_table(scratch.path, options.smoke ? small : int64_t{16} << 30),
        options, workers.threads())
        .run(copy);
  }
  if (std::string("memory").find(options.filter) != std::string::npos) {
    if (!std::filesystem::exists("/dev/shm")) {
      std::printf("SKIPPED: no /dev/shm for a RAM-backed file\n");
      return 0;
    }
    const Scratch scratch{"/dev/shm" + name};
    Source(
        make_table(scratch.path, options.smoke ? small : int64_t{6} << 30), options,
        workers.threads())
        .run(copy);
  }
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

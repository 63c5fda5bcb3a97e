#include "memory/table/table_loader.h"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <system_error>
#include <utility>

#include "memory/base/byte_text.h"
#include "memory/base/checksum.h"
#include "memory/device/device_cpu.h"

namespace engram::memory {
namespace {

constexpr int kMostThreads = 8;   // more checksum than any disk reads
constexpr int kMostReaders = 32;  // threads with one read each, where there is no io_uring

// Two per core: one waits in the kernel while the other takes a checksum.
int reading_threads(int wanted) {
  if (wanted > 0) return wanted;
  return std::min(2 * usable_cores(), kMostThreads);
}

}  // namespace

double LoadProgress::bytes_per_second() const {
  return seconds > 0. ? static_cast<double>(bytes_done) / seconds : 0.;
}

double LoadProgress::seconds_left() const {
  const double rate = bytes_per_second();
  return rate > 0. && !over ? static_cast<double>(bytes_total - bytes_done) / rate : 0.;
}

std::string LoadProgress::text() const {
  const double share =
      bytes_total > 0 ? static_cast<double>(bytes_done) / static_cast<double>(bytes_total) : 1.;
  char rate[64];
  std::snprintf(rate, sizeof(rate), "%.2f GB/s", bytes_per_second() / 1e9);
  char left[64];
  std::snprintf(
      left, sizeof(left), over ? "%.1f s" : "%.1f s left", over ? seconds : seconds_left());
  return std::to_string(static_cast<int>(100. * share)) + " %, " + format_bytes(bytes_done) +
         " of " + format_bytes(bytes_total) + ", " + rate + ", " + left;
}

// One thread's share: takes extents in order, keeps its queue full of their pieces, and feeds each
// extent's checksum in order as the pieces arrive.
class TableLoad::Reader {
 public:
  Reader(TableLoad& load, ReadQueue& queue) : load_(load), queue_(queue) {}

  void run() {
    std::vector<ReadDone> done;
    std::deque<uint64_t> arrived;  // tags of pieces that are not in a checksum yet
    while (!load_.stop_.load(std::memory_order_relaxed)) {
      while (queue_.outstanding() < load_.depth_ && submit_next()) {
      }
      if (queue_.outstanding() == 0 && arrived.empty()) return;
      // The disk gets its next reads before each checksum, lest it idle meanwhile.
      done.clear();
      queue_.wait(arrived.empty() ? 1 : 0, &done);
      for (const ReadDone& one : done) {
        if (!one.status.ok()) return load_.fail(one.status);
        arrived.push_back(one.tag);
      }
      if (arrived.empty()) continue;
      add_to_sum(arrived.front());
      arrived.pop_front();
    }
  }

 private:
  struct Extent {
    int64_t index = 0;
    int64_t bytes = 0;
    int64_t pieces = 0;
    int64_t submitted = 0;   // pieces
    int64_t summed = 0;      // pieces whose bytes are in the checksum
    std::vector<bool> here;  // [pieces]
    Checksum64 sum;
  };

  int64_t piece_bytes(const Extent& extent, int64_t piece) const {
    const int64_t size = load_.options_.piece_bytes;
    return std::min(size, extent.bytes - piece * size);
  }

  bool begin_extent() {
    const int64_t index = load_.next_extent_.fetch_add(1, std::memory_order_relaxed);
    if (index >= load_.file_->extents()) return false;
    Extent& extent = extents_.emplace_back();
    extent.index = index;
    extent.bytes = load_.file_->header().extent_size(index);
    const int64_t size = load_.options_.piece_bytes;
    extent.pieces = (extent.bytes + size - 1) / size;
    extent.here.resize(static_cast<size_t>(extent.pieces));
    return true;
  }

  // False when there is nothing left to read.
  bool submit_next() {
    if (extents_.empty() || extents_.back().submitted == extents_.back().pieces) {
      if (!begin_extent()) return false;
    }
    Extent& extent = extents_.back();
    const int64_t piece = extent.submitted++;
    const TableHeader& header = load_.file_->header();
    const int64_t at = header.extent_at(extent.index) + piece * load_.options_.piece_bytes;
    queue_.submit({
        .file = &load_.source_,
        .offset = header.data_offset + at,
        .bytes = piece_bytes(extent, piece),
        .to = load_.to_ + at,
        .tag = static_cast<uint64_t>(at / load_.options_.piece_bytes),
    });
    return true;
  }

  void add_to_sum(uint64_t tag) {
    const int64_t at = static_cast<int64_t>(tag) * load_.options_.piece_bytes;
    const int64_t index = at / load_.file_->header().extent_bytes;
    const auto found = std::find_if(
        extents_.begin(), extents_.end(), [index](const Extent& e) { return e.index == index; });
    ENGRAM_CHECK(found != extents_.end());
    Extent& extent = *found;
    const int64_t begin = load_.file_->header().extent_at(index);
    extent.here[static_cast<size_t>((at - begin) / load_.options_.piece_bytes)] = true;
    while (extent.summed < extent.pieces && extent.here[static_cast<size_t>(extent.summed)]) {
      const int64_t bytes = piece_bytes(extent, extent.summed);
      extent.sum.add(load_.to_ + begin + extent.summed * load_.options_.piece_bytes, bytes);
      load_.bytes_done_.fetch_add(bytes, std::memory_order_relaxed);
      ++extent.summed;
    }
    if (extent.summed < extent.pieces) return;
    const Status status = load_.file_->check_extent_sum(index, extent.sum.value());
    if (!status.ok()) return load_.fail(status);
    load_.finish_extent(index);
    extents_.erase(found);
  }

  TableLoad& load_;
  ReadQueue& queue_;
  std::vector<Extent> extents_;  // begun and not ready; the last one is being submitted
};

TableLoad::TableLoad(
    std::shared_ptr<const TableFile> file, DirectFile source, void* to, LoadOptions options)
    : file_(std::move(file)),
      source_(std::move(source)),
      to_(static_cast<uint8_t*>(to)),
      options_(std::move(options)),
      ready_(static_cast<size_t>(file_->extents())) {}

Result<std::unique_ptr<TableLoad>> TableLoad::start(
    std::shared_ptr<const TableFile> file, void* to, LoadOptions options) {
  ENGRAM_CHECK(options.piece_bytes > 0);
  ENGRAM_CHECK(options.piece_bytes % kTableBlock == 0);
  ENGRAM_CHECK(options.depth >= 1);
  // A piece belongs to one extent.
  const int64_t extent_bytes = file->header().extent_bytes;
  options.piece_bytes = std::min(options.piece_bytes, extent_bytes);
  while (extent_bytes % options.piece_bytes != 0) options.piece_bytes -= kTableBlock;
  Result<DirectFile> source = file->open_direct();
  if (!source.ok()) return source.status();
  std::unique_ptr<TableLoad> load(
      new TableLoad(std::move(file), std::move(source).value(), to, std::move(options)));
  ENGRAM_RETURN_IF_ERROR(load->make_queues());
  ENGRAM_RETURN_IF_ERROR(load->start_threads());
  return load;
}

// With io_uring few threads keep the disk busy. Without, a thread reads one piece at a time, and it
// takes one per piece in flight. A file in memory is copied by who reads it: more in flight than
// there are cores gains nothing, and other threads' caches are the wrong place for the bytes.
Status TableLoad::make_queues() {
  const int threads = reading_threads(options_.threads);
  IoBackend backend = options_.backend;
  if (backend == IoBackend::kAuto) {
    const bool ring = !source_.in_memory() && make_uring_queue({.depth = 1}).ok();
    backend = ring ? IoBackend::kUring : IoBackend::kThreads;
  }
  int queues = threads;
  if (backend == IoBackend::kUring) {
    depth_ = std::max(1, options_.depth / threads);
  } else if (!source_.in_memory()) {
    queues = std::clamp(options_.depth, threads, std::max(threads, kMostReaders));
  }
  const ReadQueueOptions wanted{.backend = backend, .depth = depth_};
  for (int i = 0; i < queues; ++i) {
    Result<std::unique_ptr<ReadQueue>> queue =
        options_.make_queue ? options_.make_queue(wanted) : make_read_queue(wanted);
    if (!queue.ok()) return queue.status();
    queues_.push_back(std::move(queue).value());
  }
  method_ = queues_.front()->name() + ", " + std::to_string(queues) + " threads, " +
            (source_.direct() ? "direct" : "through the page cache");
  return {};
}

Status TableLoad::start_threads() {
  const int readers = static_cast<int>(queues_.size());
  running_ = readers + (options_.on_segment ? 1 : 0);
  if (options_.on_segment && !start_thread([this] { report_segments(); })) {
    return resource_exhausted("a thread for pinning pages cannot be started");
  }
  for (int i = 0; i < readers; ++i) {
    const bool started = start_thread([this, i] {
      std::unique_ptr<ReadQueue>& queue = queues_[static_cast<size_t>(i)];
      Reader(*this, *queue).run();
      // Waits for reads in flight, here: a ring's reads end with the thread that submitted them.
      queue.reset();
    });
    if (started) continue;
    if (i == 0) return resource_exhausted("a thread for reading table files cannot be started");
    // At a limit; those that run do the work.
    const std::lock_guard<std::mutex> lock(mu_);
    running_ -= readers - i;
    break;
  }
  return {};
}

bool TableLoad::start_thread(std::function<void()> work) {
  try {
    threads_.emplace_back([this, run = std::move(work)] {
      run();
      const std::lock_guard<std::mutex> lock(mu_);
      if (--running_ == 0) {
        end_ = Clock::now();
        over_.store(true, std::memory_order_release);
      }
      changed_.notify_all();
    });
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

TableLoad::~TableLoad() {
  if (!over()) fail({Code::kCancelled, file_->path() + ": loading was stopped"});
  for (std::thread& thread : threads_) thread.join();
}

void TableLoad::fail(Status status) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (status_.ok()) status_ = std::move(status);
  stop_.store(true, std::memory_order_relaxed);
  changed_.notify_all();
}

void TableLoad::finish_extent(int64_t extent) {
  ready_[static_cast<size_t>(extent)].store(true, std::memory_order_release);
  if (!options_.on_segment) return;
  const std::lock_guard<std::mutex> lock(mu_);
  changed_.notify_all();
}

void TableLoad::report_segments() {
  const TableHeader& header = file_->header();
  const int64_t extents = std::max<int64_t>(1, options_.segment_bytes / header.extent_bytes);
  int64_t next = 0;
  for (int64_t first = 0; first < file_->extents(); first += extents) {
    const int64_t end = std::min(first + extents, file_->extents());
    {
      std::unique_lock<std::mutex> lock(mu_);
      changed_.wait(lock, [&] {
        while (next < end && ready(next)) ++next;
        return next == end || stop_.load(std::memory_order_relaxed);
      });
    }
    if (next < end) return;
    const int64_t offset = header.extent_at(first);
    const int64_t bytes = header.extent_at(end - 1) + header.extent_size(end - 1) - offset;
    const Status status = options_.on_segment(offset, bytes);
    if (!status.ok()) return fail(status);
  }
}

LoadProgress TableLoad::progress() const {
  const std::lock_guard<std::mutex> lock(mu_);
  const Clock::time_point now = over() ? end_ : Clock::now();
  return {
      .bytes_done = bytes_done_.load(std::memory_order_relaxed),
      .bytes_total = file_->header().data_bytes,
      .seconds = std::chrono::duration<double>(now - begin_).count(),
      .over = over()};
}

Status TableLoad::wait() {
  std::unique_lock<std::mutex> lock(mu_);
  changed_.wait(lock, [this] { return running_ == 0; });
  return status_;
}

Status TableLoad::status() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return status_;
}

}  // namespace engram::memory

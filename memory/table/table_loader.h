// Loads the data section of a table file into memory: parallel direct reads straight into the
// final pages. Nothing else holds the bytes, no buffer and no page cache. Each extent's checksum is
// taken by the thread that reads it, piece by piece while the bytes are in its cache, and the
// extent is ready only when the checksum is right.
//
// start() returns at once; threads of its own load. Every member may be called by any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"
#include "memory/table/table_file.h"

namespace engram::memory {

struct LoadOptions {
  int threads = 0;  // that take the checksums; 0: two per core, at most 8
  IoBackend backend = IoBackend::kAuto;
  int depth = 32;                            // pieces in flight, all threads together
  int64_t piece_bytes = int64_t{512} << 10;  // of one read; a multiple of 4096
  // Called for one segment after the other, in order, when all its extents are ready, on a thread
  // of its own: pins pages while later segments are read. Its error stops the load. May be empty.
  std::function<Status(int64_t offset, int64_t bytes)> on_segment = {};
  int64_t segment_bytes = int64_t{1} << 30;  // rounded down to extents, at least one
  // How a thread gets its queue; empty: make_read_queue(). Tests put faults here.
  std::function<Result<std::unique_ptr<ReadQueue>>(const ReadQueueOptions&)> make_queue = {};
};

struct LoadProgress {
  int64_t bytes_done = 0;  // read and in a checksum
  int64_t bytes_total = 0;
  double seconds = 0.;  // since start(), or that the load took
  bool over = false;    // loaded, failed or stopped

  double bytes_per_second() const;
  double seconds_left() const;  // at the rate so far; 0 when nothing is known
  std::string text() const;     // "43 %, 6.9 GiB of 16.0 GiB, 1.5 GB/s, 6 s left"
};

class TableLoad {
 public:
  // `to` holds header().data_bytes at a multiple of 4096; it stays valid until the load is over or
  // destroyed. Errors: those of opening the file; FAILED_PRECONDITION: the backend is forbidden
  // here; RESOURCE_EXHAUSTED: no threads.
  static Result<std::unique_ptr<TableLoad>> start(
      std::shared_ptr<const TableFile> file, void* to, LoadOptions options);
  // Stops what is still loading.
  ~TableLoad();
  TableLoad(const TableLoad&) = delete;
  TableLoad& operator=(const TableLoad&) = delete;

  // True once the extent's bytes are there and right. What they hold is visible to who asked.
  bool ready(int64_t extent) const {
    return ready_[static_cast<size_t>(extent)].load(std::memory_order_acquire);
  }
  // True once no thread loads any more. Status::ok() of wait() then means that all is ready.
  bool over() const { return over_.load(std::memory_order_acquire); }

  LoadProgress progress() const;
  std::string method() const { return method_; }  // "io_uring, 2 threads, direct"

  // Waits until the load is over. The first error: a corrupt extent and the end of the file are
  // DATA_LOSS, errors of reading as in ReadDone, those of on_segment; each names its place. An
  // error stops everything. Stopped by the destructor: CANCELLED.
  Status wait();
  // The error so far, without waiting.
  Status status() const;

 private:
  using Clock = std::chrono::steady_clock;
  class Reader;

  TableLoad(
      std::shared_ptr<const TableFile> file, DirectFile source, void* to, LoadOptions options);
  Status make_queues();
  Status start_threads();
  bool start_thread(std::function<void()> work);
  void fail(Status status);
  void finish_extent(int64_t extent);
  void report_segments();

  // Constant after start().
  const std::shared_ptr<const TableFile> file_;  // shared with stores that read rows from it
  const DirectFile source_;
  uint8_t* const to_;
  const LoadOptions options_;
  const Clock::time_point begin_ = Clock::now();
  std::string method_;
  int depth_ = 1;                                   // of each queue
  std::vector<std::unique_ptr<ReadQueue>> queues_;  // one per reading thread, which alone uses it

  // Atomic: read by gathers while the loading threads write.
  std::vector<std::atomic<bool>> ready_;  // [extents]
  std::atomic<int64_t> next_extent_{0};
  std::atomic<int64_t> bytes_done_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> over_{false};

  mutable std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  int running_ = 0;  // threads
  Clock::time_point end_;
  Status status_;

  // start() and the destructor.
  std::vector<std::thread> threads_;
};

}  // namespace engram::memory

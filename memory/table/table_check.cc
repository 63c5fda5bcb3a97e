#include "memory/table/table_check.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "memory/io/direct_file.h"

namespace engram::memory {
namespace {

constexpr auto kProgressInterval = std::chrono::milliseconds(100);

Status read_all(const DirectFile& file, int64_t offset, int64_t bytes, uint8_t* to) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        ::pread(file.descriptor(), to + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return data_loss(
          file.path() + ": reading at byte " + std::to_string(offset + done) +
          (n < 0 ? std::string(" failed: ") + std::strerror(errno) : " found the file's end"));
    }
    done += n;
  }
  return {};
}

class TableChecker {
 public:
  TableChecker(const TableFile& table, const DirectFile& file, const TableCheckOptions& options)
      : table_(table), file_(file), options_(options) {}

  Result<std::vector<Status>> run() {
    std::vector<std::thread> workers;
    for (int i = 0; i < options_.threads; ++i) workers.emplace_back([this] { work(); });
    {
      std::unique_lock<std::mutex> lock(mu_);
      while (finished_ < options_.threads) {
        ended_.wait_for(lock, kProgressInterval);
        if (options_.on_progress) options_.on_progress(bytes_done_.load());
      }
    }
    for (std::thread& worker : workers) worker.join();
    if (options_.on_progress) options_.on_progress(bytes_done_.load());
    if (!failed_.ok()) return failed_;
    if (options_.stop != nullptr && options_.stop->load()) {
      return Status(Code::kCancelled, "stopped");
    }
    std::vector<Status> corrupt;
    for (const auto& [extent, status] : corrupt_) corrupt.push_back(status);
    return corrupt;
  }

 private:
  void work() {
    const TableHeader& h = table_.header();
    const std::unique_ptr<uint8_t, void (*)(void*)> memory(
        static_cast<uint8_t*>(std::aligned_alloc(
            static_cast<size_t>(kTableBlock), static_cast<size_t>(h.extent_bytes))),
        std::free);
    while (memory != nullptr && !(options_.stop != nullptr && options_.stop->load())) {
      const int64_t extent = next_.fetch_add(1);
      if (extent >= h.extents()) break;
      const int64_t offset = h.data_offset + h.extent_at(extent);
      const int64_t bytes = h.extent_size(extent);
      Status status = read_all(file_, offset, bytes, memory.get());
      file_.forget(offset, bytes);
      if (status.ok()) status = table_.check_extent(extent, memory.get());
      bytes_done_ += bytes;
      if (status.ok()) continue;
      const std::lock_guard<std::mutex> lock(mu_);
      corrupt_[extent] = status;
    }
    const std::lock_guard<std::mutex> lock(mu_);
    if (memory == nullptr) failed_ = resource_exhausted("no memory for an extent");
    ++finished_;
    ended_.notify_one();
  }

  // Constant.
  const TableFile& table_;
  const DirectFile& file_;
  const TableCheckOptions& options_;

  // Atomic: taken or added to by all workers.
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> bytes_done_{0};

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable ended_;
  std::map<int64_t, Status> corrupt_;  // by extent
  Status failed_;
  int finished_ = 0;
};

}  // namespace

Result<std::vector<Status>> check_table(const TableFile& table, const TableCheckOptions& options) {
  ENGRAM_CHECK(options.threads > 0);
  Result<DirectFile> file = DirectFile::open(table.path());
  if (file.ok() && file.value().alignment() > kTableBlock) {
    file = DirectFile::open_buffered(table.path());  // extents begin at multiples of 4096 only
  }
  if (!file.ok()) return file.status();
  return TableChecker(table, file.value(), options).run();
}

}  // namespace engram::memory

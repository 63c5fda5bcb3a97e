#include "memory/table/table_stream.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "memory/table/synthetic_rows.h"

namespace engram::memory {
namespace {

constexpr int64_t kRunBytes = int64_t{1} << 20;
constexpr auto kProgressInterval = std::chrono::milliseconds(100);

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using ExtentMemory = std::unique_ptr<uint8_t[], Free>;

// A range of the data section.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
};

int64_t overlap(const Range& a, const Range& b) {
  return std::max<int64_t>(0, std::min(a.end, b.end) - std::max(a.begin, b.begin));
}

// The extents that are being filled.
class OpenExtents {
 public:
  explicit OpenExtents(TableWriter* writer) : writer_(writer), header_(writer->header()) {
    const TableGeometry& g = header_.geometry;
    const int64_t values_end = header_.values_at + g.rows * header_.value_stride;
    if (header_.layout == RowLayout::kSplit && header_.scale_stride > 0) {
      padding_[0] = {values_end, header_.scales_at};
      padding_[1] = {header_.scales_at + g.rows * header_.scale_stride, header_.data_bytes};
    } else {
      padding_[1] = {values_end, header_.data_bytes};
    }
    row_gaps_ = header_.layout == RowLayout::kInterleaved &&
                header_.value_stride != g.value_bytes() + g.scale_bytes();
  }

  bool all_written(const Range& range) const {
    for (int64_t e = first(range); e < last(range); ++e) {
      if (!writer_->written(e)) return false;
    }
    return true;
  }

  // The memory of the range, if it lies in one extent that is still to be written; else null.
  Result<uint8_t*> memory(const Range& range) {
    const int64_t extent = first(range);
    if (last(range) != extent + 1 || writer_->written(extent)) return nullptr;
    const std::lock_guard<std::mutex> lock(mu_);
    ENGRAM_RETURN_IF_ERROR(open(extent));
    return open_[extent].memory.get() + (range.begin - header_.extent_at(extent));
  }

  // Copies to the extents of the range that are still to be written.
  Status copy(const Range& range, const uint8_t* from) {
    for (int64_t e = first(range); e < last(range); ++e) {
      if (writer_->written(e)) continue;
      const int64_t at = header_.extent_at(e);
      const int64_t begin = std::max(range.begin, at);
      const int64_t end = std::min(range.end, at + header_.extent_size(e));
      uint8_t* to = nullptr;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        ENGRAM_RETURN_IF_ERROR(open(e));
        to = open_[e].memory.get();
      }
      std::memcpy(
          to + (begin - at), from + (begin - range.begin), static_cast<size_t>(end - begin));
    }
    return {};
  }

  // The range is filled: writes the extents that are full now.
  Status filled(const Range& range) {
    for (int64_t e = first(range); e < last(range); ++e) {
      if (writer_->written(e)) continue;
      ExtentMemory full;
      {
        const std::lock_guard<std::mutex> lock(mu_);
        Open& extent = open_[e];
        extent.missing -= overlap(range, range_of(e));
        if (extent.missing > 0) continue;
        full = std::move(extent.memory);
        open_.erase(e);
      }
      ENGRAM_RETURN_IF_ERROR(writer_->write_extent(e, full.get()));
      const std::lock_guard<std::mutex> lock(mu_);
      spare_.push_back(std::move(full));
    }
    return {};
  }

 private:
  struct Open {
    ExtentMemory memory;
    int64_t missing = 0;  // bytes
  };

  int64_t first(const Range& range) const { return range.begin / header_.extent_bytes; }
  int64_t last(const Range& range) const {  // past the end
    return (range.end + header_.extent_bytes - 1) / header_.extent_bytes;
  }
  Range range_of(int64_t extent) const {
    const int64_t at = header_.extent_at(extent);
    return {at, at + header_.extent_size(extent)};
  }

  Status open(int64_t index) {
    Open& extent = open_[index];
    if (extent.memory != nullptr) return {};
    ENGRAM_RETURN_IF_ERROR(take_memory(&extent.memory));
    const Range range = range_of(index);
    if (row_gaps_)
      std::memset(extent.memory.get(), 0, static_cast<size_t>(range.end - range.begin));
    extent.missing = range.end - range.begin;
    for (const Range& padding : padding_) {
      const int64_t bytes = overlap(range, padding);
      if (bytes == 0) continue;
      extent.missing -= bytes;
      std::memset(
          extent.memory.get() + (std::max(range.begin, padding.begin) - range.begin), 0,
          static_cast<size_t>(bytes));
    }
    return {};
  }

  Status take_memory(ExtentMemory* memory) {
    if (!spare_.empty()) {
      *memory = std::move(spare_.back());
      spare_.pop_back();
      return {};
    }
    // In huge pages where the system gives them on request.
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t bytes = static_cast<size_t>(header_.extent_bytes);
    const size_t alignment = bytes % kHugePage == 0 ? kHugePage : static_cast<size_t>(kTableBlock);
    memory->reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, bytes)));
    if (*memory == nullptr) {
      return resource_exhausted("no memory for an extent of " + std::to_string(bytes) + " bytes");
    }
    if (alignment == kHugePage) (void)::madvise(memory->get(), bytes, MADV_HUGEPAGE);
    return {};
  }

  // Constant.
  TableWriter* const writer_;
  const TableHeader& header_;
  Range padding_[2];
  bool row_gaps_ = false;  // bytes between rows that nobody fills

  // Guarded by mu_.
  std::mutex mu_;
  std::map<int64_t, Open> open_;
  std::vector<ExtentMemory> spare_;
};

class Stream {
 public:
  Stream(RowProducer* producer, TableWriter* writer, const StreamOptions& options)
      : producer_(producer),
        writer_(writer),
        header_(writer->header()),
        options_(options),
        extents_(writer) {
    const int64_t row_bytes = header_.value_stride + header_.scale_stride;
    run_rows_ = std::max<int64_t>(1, kRunBytes / row_bytes);
    progress_.bytes_total = header_.data_bytes;
    progress_.bytes_resumed = written_bytes();
  }

  Status run() {
    std::vector<std::thread> workers;
    for (int i = 0; i < options_.threads; ++i) workers.emplace_back([this] { work(); });
    {
      std::unique_lock<std::mutex> lock(mu_);
      while (finished_ < options_.threads) {
        ended_.wait_for(lock, kProgressInterval);
        lock.unlock();
        report();
        lock.lock();
      }
    }
    for (std::thread& worker : workers) worker.join();
    report();
    // On success finish() would do it; on failure this keeps what there is.
    const Status committed = writer_->commit();
    if (!failed_.ok()) return failed_;
    ENGRAM_RETURN_IF_ERROR(committed);
    if (stopped()) return {Code::kCancelled, "stopped"};
    return {};
  }

 private:
  bool stopped() const { return options_.stop != nullptr && options_.stop->load(); }

  int64_t written_bytes() const {
    int64_t bytes = 0;
    for (int64_t e = 0; e < header_.extents(); ++e) {
      if (writer_->written(e)) bytes += header_.extent_size(e);
    }
    return bytes;
  }

  void report() {
    if (!options_.on_progress) return;
    progress_.bytes_done = written_bytes();
    options_.on_progress(progress_);
  }

  void work() {
    std::vector<uint8_t> scratch;
    Status status;
    while (status.ok() && !give_up_.load() && !stopped()) {
      const int64_t first = next_row_.fetch_add(run_rows_);
      if (first >= header_.geometry.rows) break;
      status = run_of_rows(first, std::min(run_rows_, header_.geometry.rows - first), &scratch);
    }
    const std::lock_guard<std::mutex> lock(mu_);
    if (!status.ok()) {
      give_up_ = true;
      if (failed_.ok()) failed_ = status;
    }
    ++finished_;
    ended_.notify_one();
  }

  // Values and scales of the run; for interleaved rows the first is both.
  Status run_of_rows(int64_t first, int64_t count, std::vector<uint8_t>* scratch) {
    const bool apart = header_.layout == RowLayout::kSplit && header_.scale_stride > 0;
    const int64_t values_at = header_.values_at + first * header_.value_stride;
    const Range values = {values_at, values_at + count * header_.value_stride};
    const int64_t scales_at = header_.scales_at + first * header_.scale_stride;
    const Range scales = {scales_at, scales_at + count * header_.scale_stride};
    if (extents_.all_written(values) && (!apart || extents_.all_written(scales))) return {};

    Result<uint8_t*> to_values = extents_.memory(values);
    if (!to_values.ok()) return to_values.status();
    Result<uint8_t*> to_scales = apart ? extents_.memory(scales) : Result<uint8_t*>(nullptr);
    if (!to_scales.ok()) return to_scales.status();
    if (to_values.value() == nullptr || (apart && to_scales.value() == nullptr)) {
      const int64_t scale_bytes = apart ? count * header_.scale_stride : 0;
      scratch->assign(static_cast<size_t>(count * header_.value_stride + scale_bytes), 0);
    }
    uint8_t* const scratch_scales = scratch->data() + count * header_.value_stride;
    RowTarget to{
        .values = to_values.value() != nullptr ? to_values.value() : scratch->data(),
        .scales = nullptr,
        .value_stride = header_.value_stride,
        .scale_stride = header_.scale_stride};
    if (apart) to.scales = to_scales.value() != nullptr ? to_scales.value() : scratch_scales;
    if (!apart && header_.scale_stride > 0) to.scales = to.values + header_.scales_at;
    ENGRAM_RETURN_IF_ERROR(producer_->produce(first, count, to));
    if (to_values.value() == nullptr) {
      ENGRAM_RETURN_IF_ERROR(extents_.copy(values, scratch->data()));
    }
    if (apart && to_scales.value() == nullptr) {
      ENGRAM_RETURN_IF_ERROR(extents_.copy(scales, scratch_scales));
    }
    ENGRAM_RETURN_IF_ERROR(extents_.filled(values));
    return apart ? extents_.filled(scales) : Status();
  }

  // Constant.
  RowProducer* const producer_;
  TableWriter* const writer_;
  const TableHeader& header_;
  const StreamOptions& options_;
  int64_t run_rows_ = 1;

  OpenExtents extents_;

  // Atomic: taken by all workers.
  std::atomic<int64_t> next_row_{0};
  std::atomic<bool> give_up_{false};

  // The caller.
  StreamProgress progress_;

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable ended_;
  int finished_ = 0;
  Status failed_;
};

}  // namespace

Status SyntheticProducer::produce(int64_t first, int64_t count, const RowTarget& to) {
  make_synthetic_rows(
      geometry_, first, count, to.values, to.value_stride, to.scales, to.scale_stride);
  return {};
}

Status stream_rows(RowProducer* producer, TableWriter* writer, const StreamOptions& options) {
  ENGRAM_CHECK(options.threads > 0);
  return Stream(producer, writer, options).run();
}

}  // namespace engram::memory

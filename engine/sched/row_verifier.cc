#include "engine/sched/row_verifier.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace engram::engine {
namespace {

// Beyond this the source is too slow for the rate; what is dropped is counted.
constexpr size_t kMostQueued = 65536;

// The bucket holds what comes together in this time, so that samples spread over the second.
constexpr double kBucketSeconds = 0.1;

}  // namespace

RowVerifier::RowVerifier(
    double rows_per_second,
    uint64_t seed,
    const TokenMap& token_map,
    std::function<void(const Bad&)> on_bad)
    : rate_(rows_per_second),
      most_(std::max(1., rows_per_second * kBucketSeconds)),
      token_map_(token_map),
      on_bad_(std::move(on_bad)),
      random_(seed),
      bucket_(most_),
      thread_([this] { work(); }) {}

RowVerifier::~RowVerifier() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

int64_t RowVerifier::take(int64_t lookups) {
  const Clock::time_point now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - filled_).count();
  filled_ = now;
  bucket_ = std::min(most_, bucket_ + seconds * rate_);
  const int64_t taken = std::min(lookups, static_cast<int64_t>(bucket_));
  bucket_ -= static_cast<double>(taken);
  return taken;
}

int64_t RowVerifier::below(int64_t bound) {
  return static_cast<int64_t>(random_() % static_cast<uint64_t>(bound));
}

void RowVerifier::check(RowSample sample, std::shared_ptr<const memory::TableSet> tables) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (queue_.size() >= kMostQueued) {
    unchecked_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  queue_.push_back({std::move(sample), std::move(tables)});
  changed_.notify_all();
}

VerifierStats RowVerifier::stats() const {
  return {
      checked_.load(std::memory_order_relaxed), wrong_.load(std::memory_order_acquire),
      unchecked_.load(std::memory_order_relaxed)};
}

void RowVerifier::work() {
  // A thread of Linux has a niceness of its own. Where the system refuses, it competes like any
  // other.
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19));
  std::unique_lock<std::mutex> lock(mu_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    Queued next = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const memory::TableSource& source = next.tables->source(next.sample.table);
    const RowCheck check = check_row(next.sample, source, token_map_);
    if (check.verdict == RowVerdict::kUnchecked) {
      unchecked_.fetch_add(1, std::memory_order_relaxed);
      spdlog::warn("a row could not be verified: {}", check.status.to_string());
    } else {
      checked_.fetch_add(1, std::memory_order_relaxed);
    }
    if (check.verdict == RowVerdict::kWrong) {
      spdlog::error("{}", check.status.message());
      on_bad_(
          {next.sample.table, next.sample.row, next.sample.request, next.tables.get(),
           check.status});
      // Counted once it is known: who sees the count may rely on the row being out of use.
      wrong_.fetch_add(1, std::memory_order_release);
    }
    next.tables.reset();
    lock.lock();
  }
}

}  // namespace engram::engine

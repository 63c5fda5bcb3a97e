// What happens to the tables of a running engine. Another version of them is opened by the caller's
// thread and taken over by the engine's thread between two steps; rows that verification found
// wrong are taken out of use.
#include <spdlog/spdlog.h>

#include <utility>

#include "engine/run/loop.h"

namespace engram::engine {

using memory::Result;
using memory::Status;
using memory::TableSet;

namespace {

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Result<TableSwap> EngineLoop::swap_tables(const memory::TableSetOptions& options) {
  if (parts_->weights->tables.empty()) {
    return memory::failed_precondition("the model has no Engram layers, hence no tables to swap");
  }
  {
    const std::lock_guard<std::mutex> lock(mu_);
    if (stopping_) return memory::unavailable("the engine is stopping");
    if (std::exchange(swapping_, true)) {
      return memory::unavailable("another swap of the tables is going on");
    }
  }
  const Clock::time_point begin = Clock::now();
  memory::TableRequest request = table_request(*parts_->weights);
  request.options = options;
  request.device = parts_->backend.device.get();
  Result<std::unique_ptr<TableSet>> opened = TableSet::open(request);
  PendingSwap swap;
  std::unique_lock<std::mutex> lock(mu_);
  if (stopping_) {
    swap.status = memory::unavailable("the engine is stopping");
  } else if (!opened.ok()) {
    swap.status = opened.status();
  } else {
    swap.set = std::move(opened).value();
    if (parts_->options.wrap_table_for_test) {
      for (std::unique_ptr<memory::RowStore>& store : swap.set->stores_for_test()) {
        store = parts_->options.wrap_table_for_test(std::move(store));
      }
    }
    swap.result.open_seconds = seconds_since(begin);
    swap_ = &swap;
    work_.notify_one();
    swapped_.wait(lock, [&] { return swap.done; });
  }
  lock.unlock();
  // Unmapping a large table takes a while, and the engine need not wait for it.
  swap.set.reset();
  lock.lock();
  swapping_ = false;
  if (!swap.status.ok()) return swap.status;
  spdlog::info(
      "n-gram tables: version {} follows {}; loaded in {:.2f} s, {:.3f} ms between two steps",
      swap.result.new_version, swap.result.old_version, swap.result.open_seconds,
      swap.result.pause_seconds * 1e3);
  return std::move(swap.result);
}

// Between two steps: the old stores are idle once prefetch has let go of them.
void EngineLoop::take_swap() {
  PendingSwap* swap = nullptr;
  bool stopping = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    swap = std::exchange(swap_, nullptr);
    stopping = stopping_;
  }
  if (swap == nullptr) return;
  const Clock::time_point begin = Clock::now();
  if (!stopping) {
    swap->result.old_version = parts_->tables->version();
    swap->result.new_version = swap->set->version();
    swap->result.refetched_tokens = parts_->prefetch->use_stores(swap->set->stores());
    if (verifier_ != nullptr) verifier_->use_tables(swap->set);
    use_tables(swap->result.new_version);
    look_ahead();
    ++totals_.table_swaps;
  }
  const std::lock_guard<std::mutex> lock(mu_);
  if (stopping) {
    swap->status = memory::unavailable("the engine is stopping");
  } else {
    parts_->tables.swap(swap->set);
    tables_ = parts_->tables;
    swap->result.pause_seconds = seconds_since(begin);
  }
  swap->done = true;
  swapped_.notify_all();
}

// Names the tables that all steps from now on use.
void EngineLoop::use_tables(const std::string& version) {
  tables_version_ = version;
  scheduler_.use_tables(version + "/" + std::to_string(distrusted_));
}

void EngineLoop::start_verifier() {
  if (parts_->options.verify_rows == 0 || parts_->prefetch->slots() == 0) return;
  const auto on_bad = [this](const RowVerifier::Bad& bad) {
    const std::lock_guard<std::mutex> lock(mu_);
    bad_rows_.push_back(bad);
    work_.notify_one();
  };
  verifier_ = std::make_unique<RowVerifier>(
      static_cast<double>(parts_->options.verify_rows), parts_->options.seed,
      parts_->weights->token_map, on_bad);
  verifier_->use_tables(parts_->tables);
  parts_->prefetch->use_verifier(verifier_.get());
}

// Who read a wrong row is not answered further, and nothing that may have been computed from it is
// found in the prefix cache again. A row of tables that were swapped since concerns its reader
// only.
void EngineLoop::take_bad_rows() {
  std::vector<RowVerifier::Bad> found;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    found.swap(bad_rows_);
  }
  if (found.empty()) return;
  ++distrusted_;
  use_tables(tables_version_);
  for (const RowVerifier::Bad& bad : found) {
    std::vector<uint64_t> readers = {bad.request};
    if (bad.tables == parts_->tables.get()) {
      readers = parts_->prefetch->quarantine(bad.table, bad.row, bad.status);
    }
    for (const uint64_t key : readers) {
      const auto live = live_.find(key);
      if (live != live_.end()) end_request(*live->second, bad.status, FinishReason::kError);
    }
  }
}

}  // namespace engram::engine

// What happens to the tables of a running engine. Another version of them is opened by the caller's
// thread and taken over by the engine's thread between two steps; rows that verification found
// wrong are taken out of use.
#include <spdlog/spdlog.h>

#include <utility>

#include "engine/run/loop.h"
#include "memory/table/touch_rows.h"

namespace engram::engine {

using memory::Result;
using memory::Status;
using memory::TableSet;

namespace {

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

// One swap at a time: whoever begins it has idle_tables_ for itself until end_swap().
Status EngineLoop::begin_swap() {
  if (parts_->weights->tables.empty()) {
    return memory::failed_precondition("the model has no Engram layers, hence no tables to swap");
  }
  const std::lock_guard<std::mutex> lock(mu_);
  ENGRAM_RETURN_IF_ERROR(failure_);
  if (stopping_) return memory::unavailable("the engine is stopping");
  if (std::exchange(swapping_, true)) {
    return memory::unavailable("another swap of the tables is going on");
  }
  return {};
}

void EngineLoop::end_swap() {
  const std::lock_guard<std::mutex> lock(mu_);
  swapping_ = false;
}

Result<std::unique_ptr<TableSet>> EngineLoop::open_again(const memory::TableSetOptions& options) {
  memory::TableRequest request = table_request(*parts_->weights);
  request.options = options;
  pin_for(parts_->backend, &request.options);
  request.device = parts_->backend.device.get();
  Result<std::unique_ptr<TableSet>> opened = TableSet::open(request);
  if (opened.ok() && parts_->options.wrap_table_for_test) {
    for (std::unique_ptr<memory::RowStore>& store : opened.value()->stores_for_test()) {
      store = parts_->options.wrap_table_for_test(std::move(store));
    }
  }
  return opened;
}

// Afterwards *set is the tables that were in use.
Result<TableSwap> EngineLoop::swap_with(std::shared_ptr<TableSet>* set, double open_seconds) {
  PendingSwap swap;
  swap.set = std::move(*set);
  swap.result.open_seconds = open_seconds;
  std::unique_lock<std::mutex> lock(mu_);
  if (stopping_) {
    swap.status = memory::unavailable("the engine is stopping");
  } else {
    swap_ = &swap;
    work_.notify_one();
    swapped_.wait(lock, [&] { return swap.done; });
  }
  *set = std::move(swap.set);
  if (!swap.status.ok()) return swap.status;
  return std::move(swap.result);
}

Result<TableSwap> EngineLoop::swap_tables(const memory::TableSetOptions& options) {
  ENGRAM_RETURN_IF_ERROR(begin_swap());
  const Clock::time_point begin = Clock::now();
  Result<std::unique_ptr<TableSet>> opened = open_again(options);
  if (!opened.ok()) {
    end_swap();
    return opened.status();
  }
  std::shared_ptr<TableSet> set = std::move(opened).value();
  Result<TableSwap> swapped = swap_with(&set, seconds_since(begin));
  // Unmapping a large table takes a while, and the engine need not wait for it.
  set.reset();
  end_swap();
  if (!swapped.ok()) return swapped;
  const TableSwap& swap = swapped.value();
  spdlog::info(
      "n-gram tables: version {} follows {}; loaded in {:.2f} s, {:.3f} ms between two steps",
      swap.new_version, swap.old_version, swap.open_seconds, swap.pause_seconds * 1e3);
  return swapped;
}

Result<size_t> EngineLoop::open_idle_tables(const memory::TableSetOptions& options) {
  ENGRAM_RETURN_IF_ERROR(begin_swap());
  Result<std::unique_ptr<TableSet>> opened = open_again(options);
  const size_t place = idle_tables_.size();
  if (opened.ok()) idle_tables_.push_back(std::move(opened).value());
  end_swap();
  if (!opened.ok()) return opened.status();
  return place;
}

Result<TableSwap> EngineLoop::exchange_tables(size_t place) {
  ENGRAM_RETURN_IF_ERROR(begin_swap());
  Result<TableSwap> swapped =
      memory::failed_precondition("no idle n-gram tables lie in place " + std::to_string(place));
  if (place < idle_tables_.size()) swapped = swap_with(&idle_tables_[place], 0);
  end_swap();
  return swapped;
}

// No swap can begin meanwhile, so that the sets stay.
Result<TableTouch> EngineLoop::touch_tables() {
  ENGRAM_RETURN_IF_ERROR(begin_swap());
  std::vector<std::shared_ptr<TableSet>> sets = idle_tables_;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    sets.push_back(tables_);
  }
  TableTouch touch;
  const Clock::time_point begin = Clock::now();
  for (const std::shared_ptr<TableSet>& set : sets) {
    for (const std::unique_ptr<memory::RowStore>& store : set->stores()) {
      touch.pages += memory::touch_rows(*store);
    }
  }
  touch.seconds = seconds_since(begin);
  end_swap();
  return touch;
}

Status EngineLoop::set_ngram_fetch(const std::string& mode) {
  const Result<FetchMode> wanted = fetch_mode(mode);
  if (!wanted.ok()) return wanted.status();
  if (parts_->weights->tables.empty()) {
    return memory::failed_precondition("the model has no Engram layers, hence no rows to fetch");
  }
  PendingMode pending{.mode = wanted.value()};
  std::unique_lock<std::mutex> lock(mu_);
  swapped_.wait(lock, [this] { return mode_ == nullptr; });
  ENGRAM_RETURN_IF_ERROR(failure_);
  if (stopping_) return memory::unavailable("the engine is stopping");
  mode_ = &pending;
  work_.notify_one();
  swapped_.wait(lock, [&] { return pending.done; });
  return pending.status;
}

// What is computed with zeros or without the module is another model's: its cached prefixes are
// kept apart.
void EngineLoop::take_mode() {
  PendingMode* pending = nullptr;
  Status status;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    pending = mode_;
    if (pending == nullptr) return;
    if (stopping_) {
      status = memory::unavailable("the engine is stopping");
    } else if (!live_ids_.empty()) {
      status = memory::failed_precondition(
          "how rows are fetched cannot be changed while requests are live, and " +
          std::to_string(live_ids_.size()) + " are");
    }
  }
  // Requests that are submitted from here on begin after the change.
  if (status.ok()) status = parts_->prefetch->set_mode(pending->mode);
  if (status.ok()) {
    fetch_mode_ = pending->mode;
    use_tables(tables_version_);
  }
  const std::lock_guard<std::mutex> lock(mu_);
  pending->status = std::move(status);
  pending->done = true;
  mode_ = nullptr;
  swapped_.notify_all();
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

// Names the tables, and the use of them, of all steps from now on.
void EngineLoop::use_tables(const std::string& version) {
  tables_version_ = version;
  const char* model = fetch_mode_ == FetchMode::kSkip   ? "/skip"
                      : fetch_mode_ == FetchMode::kZero ? "/zero"
                                                        : "";
  scheduler_.use_tables(version + "/" + std::to_string(distrusted_) + model);
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

#include "engine/run/decode_graphs.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>
#include <utility>

#include "memory/base/byte_text.h"

namespace engram::engine {
namespace {

using memory::kWindow;
using memory::Result;
using SteadyClock = std::chrono::steady_clock;

constexpr int64_t kIntBytes = sizeof(int32_t);
// Arrays of a step with an entry per row, in this order: cache slots, staging slots and what
// BatchPlan::sampled_from is among them.
enum Array : int64_t { kIds, kPositions, kSlots, kRowSlots, kSampledFrom, kArraysOfStep };
constexpr int64_t kAlignment = 64 / kIntBytes;  // of the windows before them

constexpr int32_t kKnown = -1;  // an id that is sampled from no row

int64_t aligned(int64_t ints) {
  return (ints + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t size_after(int64_t size) {
  if (size < 8) return 2 * size;
  if (size < 32) return size + 8;
  return size < 512 ? size + 16 : size + 64;
}

bool in_place(std::span<const int32_t> row_slots) {
  for (size_t t = 0; t < row_slots.size(); ++t) {
    if (row_slots[t] != static_cast<int32_t>(t)) return false;
  }
  return true;
}

}  // namespace

std::vector<int64_t> decode_batch_sizes(int64_t max_num_seqs) {
  std::vector<int64_t> sizes;
  for (int64_t size = 1; size < max_num_seqs; size = size_after(size)) sizes.push_back(size);
  sizes.push_back(max_num_seqs);
  return sizes;
}

DecodeGraphs::DecodeGraphs(
    memory::Device& device,
    memory::Stream& compute,
    Ops& ops,
    Model& model,
    std::vector<StagedRows> staged,
    StepRows* step_rows,
    const DecodeGraphsLimits& limits)
    : device_(device),
      compute_(compute),
      ops_(ops),
      model_(model),
      staged_(std::move(staged)),
      step_rows_(step_rows),
      limits_(limits),
      sizes_(decode_batch_sizes(limits.max_num_seqs)) {}

Result<std::unique_ptr<DecodeGraphs>> DecodeGraphs::make(
    memory::Device& device,
    memory::Stream& compute,
    Ops& ops,
    Model& model,
    std::vector<StagedRows> staged,
    StepRows* step_rows,
    const DecodeGraphsLimits& limits) {
  ENGRAM_CHECK(device.records());
  std::unique_ptr<DecodeGraphs> graphs(
      new DecodeGraphs(device, compute, ops, model, std::move(staged), step_rows, limits));
  const int64_t rows = limits.max_num_seqs;
  const int64_t tables = rows * limits.max_pages;
  const int64_t of_step = (kArraysOfStep + kWindow) * rows;
  Result<memory::Buffer> arrays =
      device.allocate("arrays of decode steps", (aligned(rows + 1 + tables) + of_step) * kIntBytes);
  if (!arrays.ok()) return arrays.status();
  graphs->arrays_ = std::move(arrays).value();
  for (memory::Buffer& host_arrays : graphs->host_arrays_) {
    Result<memory::Buffer> host =
        device.allocate_pinned("arrays of decode steps", (of_step + tables) * kIntBytes);
    if (!host.ok()) return host.status();
    host_arrays = std::move(host).value();
  }
  // One token per sequence: which is whose never changes.
  std::vector<int32_t> ascending(static_cast<size_t>(rows + 1));
  std::iota(ascending.begin(), ascending.end(), 0);
  device.copy(compute, graphs->arrays_.data(), ascending.data(), (rows + 1) * kIntBytes);
  compute.synchronize();
  return graphs;
}

// The numbers 0, 1, ..., then the page tables, then what is uploaded for each step, close together
// for the batch size: the windows of the rows, and the arrays.
int32_t* DecodeGraphs::windows_of_step() const {
  return arrays_.as<int32_t>() + aligned(limits_.max_num_seqs * (1 + limits_.max_pages) + 1);
}

Batch DecodeGraphs::batch_of(int64_t size) const {
  const int32_t* ascending = arrays_.as<int32_t>();
  const int32_t* tables = ascending + limits_.max_num_seqs + 1;
  const int32_t* of_step = windows_of_step() + size * kWindow;
  Batch batch;
  batch.tokens = size;
  batch.sequences = size;
  batch.max_pages = limits_.max_pages;
  batch.ids = of_step + kIds * size;
  batch.positions = of_step + kPositions * size;
  batch.slots = of_step + kSlots * size;
  batch.row_slots = of_step + kRowSlots * size;
  batch.sequence_of = ascending;
  batch.token_begin = ascending;
  batch.page_table = tables;
  return batch;
}

void DecodeGraphs::upload(
    const BatchPlan& plan,
    std::span<const int32_t> row_slots,
    std::span<const int32_t> windows,
    int64_t size) {
  const size_t rows = static_cast<size_t>(size);
  int32_t* const host = host_arrays_[++steps_ % host_arrays_.size()].as<int32_t>();
  const std::span<int32_t> of_step(host + size * kWindow, kArraysOfStep * rows);
  const auto put = [&](Array array, std::span<const int32_t> values, int32_t filler) {
    for (size_t i = 0; i < rows; ++i) {
      of_step[static_cast<size_t>(array) * rows + i] = i < values.size() ? values[i] : filler;
    }
  };
  put(kIds, plan.ids, 0);
  put(kPositions, plan.positions, 0);
  put(kSlots, plan.slots, limits_.scratch_slot);
  put(kRowSlots, row_slots, 0);
  put(kSampledFrom, plan.sampled_from, kKnown);
  int32_t* first = of_step.data();
  if (!windows.empty()) {
    first = host;
    std::fill(std::ranges::copy(windows, host).out, of_step.data(), memory::kNoToken);
  }
  const Batch batch = batch_of(size);
  const int64_t skipped = first - host;
  device_.copy(
      compute_, windows_of_step() + skipped, first,
      (size * (kWindow + kArraysOfStep) - skipped) * kIntBytes);
  if (plan.sequences.empty()) return;
  // A filler reads the key at position 0 of whatever sequence had its row before.
  int32_t* tables = of_step.data() + of_step.size();
  std::ranges::copy(plan.page_table, tables);
  device_.copy_strided(
      compute_, const_cast<int32_t*>(batch.page_table), limits_.max_pages * kIntBytes, tables,
      plan.max_pages * kIntBytes, plan.max_pages * kIntBytes, std::ssize(plan.sequences));
}

int64_t DecodeGraphs::size_of(int64_t sequences) const {
  return *std::ranges::lower_bound(sizes_, sequences);
}

bool DecodeGraphs::takes(const BatchPlan& plan) const {
  return plan.decodes() && plan.tokens() <= limits_.max_num_seqs &&
         plan.max_pages <= limits_.max_pages;
}

std::vector<Ticket> DecodeGraphs::tickets_of(const Key& key) {
  std::vector<Ticket> tickets;
  if (key.rows == Rows::kByStep) {
    std::vector<StagedRows> rows =
        step_rows_->enqueue(compute_, windows_of_step(), arrays_.as<int32_t>(), key.size);
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i].waited_ns = staged_[i].waited_ns;
      tickets.emplace_back(rows[i]);
    }
    return tickets;
  }
  for (size_t i = 0; key.rows != Rows::kNone && i < staged_.size(); ++i) {
    StagedRows staged = staged_[i];
    staged.in_step_order = key.rows == Rows::kInPlace;
    if (staged.in_step_order) staged.rows = staged.rows.row_range(0, key.size);
    tickets.emplace_back(staged);
  }
  return tickets;
}

SampledFeed DecodeGraphs::feed_of(const Key& key, int64_t tokens) const {
  int32_t* const of_step = windows_of_step() + key.size * kWindow;
  SampledFeed feed;
  feed.tokens = tokens;
  feed.ids = of_step + kIds * key.size;
  feed.from = of_step + kSampledFrom * key.size;
  feed.sampled = limits_.sampled;
  if (key.rows != Rows::kByStep) return feed;
  feed.windows = windows_of_step();
  feed.canonical = step_rows_->canonical();
  feed.window = kWindow;
  return feed;
}

// The whole step of a batch size, from the arrays on.
void DecodeGraphs::enqueue(const Key& key) {
  ops_.set_calls(OpCalls::kOnlyEnqueued);
  ops_.feed_sampled(compute_, feed_of(key, key.size));
  model_.forward(compute_, batch_of(key.size), nullptr, key.size, tickets_of(key));
  if (key.size <= limits_.logit_rows) model_.logits(compute_, 0, key.size);
  ops_.set_calls(OpCalls::kEnqueuedAndCounted);
}

void DecodeGraphs::record(const Key& key) {
  Result<std::unique_ptr<memory::Recording>> recording =
      device_.record(compute_, [&] { enqueue(key); });
  if (recording.ok()) {
    graphs_[key].recording = std::move(recording).value();
    if (step_rows_ != nullptr) graphs_[key].rows_version = step_rows_->version();
    return;
  }
  refused_ = true;
  if (!device_.failure().ok()) return;  // the engine tells
  spdlog::warn(
      "no CUDA graph of a decode step of {} sequences, nor further ones: {}; such steps are "
      "launched kernel by kernel",
      key.size, recording.status().message());
}

void DecodeGraphs::record_all(bool with_rows) {
  const SteadyClock::time_point begin = SteadyClock::now();
  const int64_t bytes_before = device_.available_bytes();
  std::string sizes;
  int64_t pieces = 0;
  for (const int64_t size : sizes_) {
    Key key{size, with_rows ? Rows::kInPlace : Rows::kNone};
    if (with_rows && step_rows_ != nullptr && step_rows_->serves(size)) key.rows = Rows::kByStep;
    const std::vector<int32_t> windows(static_cast<size_t>(size * kWindow), memory::kNoToken);
    upload({}, {}, windows, size);
    enqueue(key);
    compute_.synchronize();
    graphs_[key].has_run = true;
    record(key);
    if (refused_) break;
    sizes.append(sizes.empty() ? "" : ", ").append(std::to_string(size));
    pieces = graphs_[key].recording->pieces();
  }
  if (sizes.empty()) return;
  const std::chrono::duration<double> seconds = SteadyClock::now() - begin;
  spdlog::info(
      "memory: CUDA graphs {} (decode steps of {} sequences, up to {} pieces of work each, in "
      "{:.1f} s; --enforce-eager: none)",
      memory::format_bytes(std::max<int64_t>(bytes_before - device_.available_bytes(), 0)), sizes,
      pieces, seconds.count());
}

// But for what a recording waits for by itself.
void DecodeGraphs::wait_for(std::vector<Ticket> tickets) {
  for (size_t i = 0; i < tickets.size(); ++i) {
    const StagedRows staged = tickets[i].redeem();
    const bool awaited = staged.ready == nullptr || staged.ready == staged_[i].ready;
    if (!awaited) compute_.wait(*staged.ready, staged.waited_ns);
  }
}

void DecodeGraphs::run(
    const BatchPlan& plan,
    std::span<const int32_t> row_slots,
    std::span<const int32_t> windows,
    std::vector<Ticket> tickets) {
  Key key{size_of(plan.tokens()), Rows::kNone};
  if (!windows.empty()) {
    key.rows = Rows::kByStep;
  } else if (!tickets.empty()) {
    key.rows = in_place(row_slots) ? Rows::kInPlace : Rows::kBySlot;
  }
  size_ = key.size;
  upload(plan, row_slots, windows, key.size);
  wait_for(std::move(tickets));
  Graph& graph = graphs_[key];
  const bool outdated = key.rows == Rows::kByStep && graph.rows_version != step_rows_->version();
  if (outdated) graph.recording.reset();
  if (graph.recording == nullptr && graph.has_run && !refused_) record(key);
  if (graph.recording != nullptr) {
    graph.recording->replay(compute_);
    ++replays_;
  } else {
    enqueue(key);
    graph.has_run = true;
  }
  count(plan, key);
}

void DecodeGraphs::count(const BatchPlan& plan, const Key& key) {
  Batch batch = batch_of(key.size);
  batch.tokens = plan.tokens();
  batch.sequences = plan.tokens();
  for (const PlannedSequence& p : plan.sequences) batch.context_tokens += p.begin + 1;
  batch.attended = batch.context_tokens;
  std::vector<Ticket> tickets;
  for (size_t i = 0; key.rows != Rows::kNone && i < staged_.size(); ++i) {
    StagedRows staged = staged_[i];
    staged.ready = nullptr;
    staged.in_step_order = key.rows != Rows::kBySlot;
    if (staged.in_step_order) staged.rows = staged.rows.row_range(0, batch.tokens);
    tickets.emplace_back(staged);
  }
  ops_.set_calls(OpCalls::kOnlyCounted);
  if (plan.ahead()) ops_.feed_sampled(compute_, feed_of(key, batch.tokens));
  model_.forward(compute_, batch, nullptr, batch.tokens, std::move(tickets));
  ops_.set_calls(OpCalls::kEnqueuedAndCounted);
}

View DecodeGraphs::logits(int64_t first, int64_t count) {
  if (size_ <= limits_.logit_rows) ops_.set_calls(OpCalls::kOnlyCounted);
  const View logits = model_.logits(compute_, first, count);
  ops_.set_calls(OpCalls::kEnqueuedAndCounted);
  return logits;
}

}  // namespace engram::engine

// How a fetch is carried out: which stream gathers, by the host or by the device, and which of its
// lookups are verified.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/sched/prefetch.h"

namespace engram::engine {
namespace {

using SteadyClock = std::chrono::steady_clock;

int64_t ns_of(SteadyClock::time_point time) {
  return std::chrono::nanoseconds(time.time_since_epoch()).count();
}

// What is computed from a missing row is NaN, never plausible.
void poison(const memory::View& staging, int32_t slot) {
  constexpr int kAllOnes = 0xff;  // of f32 and of bf16: NaN
  const int64_t bytes = staging.cols * memory::dtype_bytes(staging.dtype);
  std::memset(
      static_cast<uint8_t*>(staging.data) + slot * bytes, kAllOnes, static_cast<size_t>(bytes));
}

}  // namespace

// The rows of a table whose memory the device reads, by any way.
void Prefetch::enqueue_direct(memory::Stream& stream, Fetch& fetch, size_t index) {
  Layer& layer = *layers_[index];
  const GatherWay way = way_of(layer, fetch.tokens);
  layer.store->count_rows(std::ssize(fetch.row_ids[index]));
  enqueue_rows(stream, fetch, index, way);
  for (Chosen& chosen : fetch.chosen) {
    if (chosen.sample.table != index || way == GatherWay::kHost) continue;
    const int64_t value_bytes = memory::dtype_bytes(layer.view.dtype);
    const int64_t bytes = layer.store->geometry().row_width * value_bytes;
    const int64_t slot = fetch.slots[static_cast<size_t>(chosen.token)];
    chosen.sample.staged.resize(static_cast<size_t>(bytes));
    device_.copy(
        stream, chosen.sample.staged.data(),
        layer.view.as<uint8_t>() + slot * layer.view.stride * value_bytes +
            chosen.sample.column * bytes,
        bytes);
  }
  if (!fetch.chosen.empty()) {
    stream.enqueue_host([this, &fetch, index] { hand_over_samples(fetch, index); });
  }
}

// On the gathering thread.
void Prefetch::gather(Fetch& fetch, size_t index) {
  const SteadyClock::time_point begin = SteadyClock::now();
  Layer& layer = *layers_[index];
  Failure& failure = fetch.failures[index];
  failure.tokens.clear();
  failure.status = layer.store->gather(
      fetch.row_ids[index].data(), fetch.slots.data(), fetch.tokens, layer.gathered,
      &failure.tokens);
  ENGRAM_CHECK(failure.status.ok() == failure.tokens.empty());
  for (const int32_t token : failure.tokens) {
    poison(layer.gathered, fetch.slots[static_cast<size_t>(token)]);
  }
  if (!fetch.chosen.empty()) hand_over_samples(fetch, index);
  const int64_t begin_ns = ns_of(begin);
  const int64_t end_ns = ns_of(SteadyClock::now());
  const int64_t ns = end_ns - begin_ns;
  layer.gather_ns += ns;
  fetch.gather_ns += ns;
  // In the compute stream it holds up a step that was to begin by then.
  if (mode_ == FetchMode::kSync) layer.held_up_ns += ns;
  if (fetch.in_compute) layer.held_up_ns += held_up_ns(fetch, begin_ns, end_ns);
}

// How long the next step, which was to begin by then, stood still for what the compute stream did.
int64_t Prefetch::held_up_ns(const Fetch& fetch, int64_t begin_ns, int64_t end_ns) const {
  const int64_t step_ns = step_begin_ns_.load();
  if (step_ns == fetch.while_step_ns) return 0;  // that of before
  return std::max<int64_t>(0, end_ns - std::max(begin_ns, step_ns));
}

void Prefetch::enqueue_gather(Fetch& fetch, size_t index) {
  memory::Stream& stream = mode_ == FetchMode::kSync ? compute_ : *side_;
  const Layer& layer = *layers_[index];
  count_rows(fetch, index);
  if (!layer.direct.empty()) {
    // In the compute stream it holds up the step.
    const bool exposed = mode_ == FetchMode::kSync;
    if (exposed) stream.begin_span(layer.waited_ns);
    stream.begin_span(layer.device_gather_ns);
    enqueue_direct(stream, fetch, index);
    stream.end_span(layer.device_gather_ns);
    if (exposed) stream.end_span(layer.waited_ns);
    record_gathered(stream, fetch, index);
    return;
  }
  stream.enqueue_host([this, &fetch, index] { gather(fetch, index); });
  if (fetch.device_slots.data() != nullptr) bring_over(stream, fetch, layer);
  record_gathered(stream, fetch, index);
}

void Prefetch::record_gathered(memory::Stream& stream, const Fetch& fetch, size_t index) {
  stream.record(*fetch.gathered[index]);
  if (fetch.for_step) stream.record(*layers_[index]->ready);
}

void Prefetch::choose(Fetch& fetch, size_t table, int64_t token, int column) {
  int64_t before = token;
  auto owner = fetch.owners.begin();
  while (before >= owner->tokens) before -= (owner++)->tokens;
  const memory::TableGeometry& g = layers_[table]->store->geometry();
  const int64_t position = owner->begin + before;
  const int64_t begin = std::max<int64_t>(0, position + 1 - g.max_order());
  const auto window =
      owner->text.subspan(static_cast<size_t>(begin), static_cast<size_t>(position + 1 - begin));
  Chosen& chosen = fetch.chosen.emplace_back();
  chosen.token = token;
  chosen.sample = {
      .table = table,
      .column = column,
      .row = fetch.row_ids[table][static_cast<size_t>(token * g.columns() + column)],
      .window = {window.begin(), window.end()},
      .request = owner->request,
      .act = layers_[table]->view.dtype,
      .staged = {}};
}

void Prefetch::choose_samples(Fetch& fetch) {
  if (verifier_ == nullptr) return;
  int64_t columns = 0;
  for (const std::unique_ptr<Layer>& layer : layers_) columns += layer->store->geometry().columns();
  const int64_t lookups = fetch.tokens * columns;
  const int64_t wanted = verifier_->take(lookups);
  if (wanted == 0) return;
  fetch.verifier = verifier_;
  fetch.verified = verifier_->tables();
  for (int64_t i = 0; i < wanted; ++i) {
    int64_t lookup = wanted == lookups ? i : verifier_->below(lookups);
    const int64_t token = lookup / columns;
    int64_t column = lookup % columns;
    size_t table = 0;
    while (column >= layers_[table]->store->geometry().columns()) {
      column -= layers_[table++]->store->geometry().columns();
    }
    choose(fetch, table, token, static_cast<int>(column));
  }
}

// On the gathering stream, with the rows staged.
void Prefetch::hand_over_samples(Fetch& fetch, size_t index) {
  const Layer& layer = *layers_[index];
  const int64_t value_bytes = memory::dtype_bytes(layer.view.dtype);
  const int64_t bytes = layer.store->geometry().row_width * value_bytes;
  const std::vector<int32_t>& failed = fetch.failures[index].tokens;
  for (Chosen& chosen : fetch.chosen) {
    if (chosen.sample.table != index) continue;
    if (std::ranges::find(failed, static_cast<int32_t>(chosen.token)) != failed.end()) continue;
    const int64_t slot = fetch.slots[static_cast<size_t>(chosen.token)];
    const uint8_t* from = layer.gathered.as<const uint8_t>() +
                          slot * layer.gathered.stride * value_bytes + chosen.sample.column * bytes;
    if (chosen.sample.staged.empty()) chosen.sample.staged.assign(from, from + bytes);
    fetch.verifier->check(std::move(chosen.sample), fetch.verified);
    chosen.sample.table = layers_.size();  // moved from
  }
}

// Not while the side stream works: what it still writes may be for slots that were freed and taken
// again since.
bool Prefetch::fits_in_compute(int64_t tokens) const {
  if (mode_ == FetchMode::kSync) return false;
  if (on_side_ != nullptr && !on_side_->finished->done()) return false;
  int64_t rows = 0;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    if (!layer->host_rows) return false;
    rows += tokens * layer->store->geometry().columns();
  }
  return rows <= kRowsInCompute;
}

void Prefetch::gather_in_compute(Fetch& fetch) {
  for (const size_t index : order_) {
    count_rows(fetch, index);
    compute_.enqueue_host([this, &fetch, index] { gather(fetch, index); });
  }
  compute_.record(*fetch.finished);
  in_compute_ = &fetch;
}

void Prefetch::enqueue(Fetch& fetch) {
  choose_samples(fetch);
  if (fetch.device_slots.data() != nullptr) {
    std::ranges::copy(fetch.slots, fetch.device_slots.as<int32_t>());
  }
  fetch.in_compute = fetch.for_step && fits_in_compute(fetch.tokens);
  hash_ns_ += fetch.hash_ns;
  unsettled_.push_back(&fetch);
  uncounted_.push_back(&fetch);
  if (fetch.in_compute) return gather_in_compute(fetch);
  // The same slots may have been freed and taken again, as above.
  if (in_compute_ != nullptr && !in_compute_->finished->done()) {
    side_->wait(*in_compute_->finished, nullptr);
  }
  for (const size_t index : order_) enqueue_gather(fetch, index);
  // Counting comes after all rows are on their way and never holds up a step.
  if (mode_ == FetchMode::kPrefetch) side_->enqueue_host([this, &fetch] { count_distinct(fetch); });
  (mode_ == FetchMode::kSync ? compute_ : *side_).record(*fetch.finished);
  on_side_ = &fetch;
}

}  // namespace engram::engine

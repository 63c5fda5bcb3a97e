// Rows of sampled tokens: the compute stream hashes and gathers them where it sampled the tokens,
// or they are fetched when the host has learned of those.
#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "engine/sched/prefetch.h"
#include "memory/table/row_hash.h"

namespace engram::engine {
namespace {

using SteadyClock = std::chrono::steady_clock;

int64_t ns_now() {
  return std::chrono::nanoseconds(SteadyClock::now().time_since_epoch()).count();
}

}  // namespace

// What is verified or refused is told by its row ids, which are known too late here.
void Prefetch::fetch_when_sampled(std::span<const SamplingSequence> sequences) {
  ENGRAM_CHECK(sampling_ == nullptr);
  const int64_t tokens = std::ssize(sequences);
  if (!fetches_ahead() || tokens == 0 || verifier_ != nullptr || !quarantined_.empty()) return;
  if (!fits_in_compute(tokens) || tokens > std::min(room_ahead(), free_slots())) return;
  const int32_t first_slot = free_.take_run(tokens);
  if (first_slot < 0) return;
  Fetch& fetch = next_fetch();
  fetch.when_sampled = true;
  fetch.in_compute = true;
  fetch.for_step = true;
  fetch.tokens = tokens;
  fetch.while_step_ns = step_begin_ns_.load();
  fetch.windows.clear();
  fetch.sampled.clear();
  for (const SamplingSequence& sampling : sequences) {
    fetch.slots.push_back(first_slot + static_cast<int32_t>(fetch.slots.size()));
    slot_serial_[static_cast<size_t>(fetch.slots.back())] = fetch.serial;
    stage_sampling(fetch, sampling);
  }
  for (size_t l = 0; l < layers_.size(); ++l) {
    fetch.row_ids[l].resize(static_cast<size_t>(tokens * layers_[l]->store->geometry().columns()));
  }
  compute_.enqueue_host([this, &fetch] {
    hash_sampled(fetch);
    for (const size_t index : order_) gather(fetch, index);
  });
  compute_.record(*fetch.finished);
  in_compute_ = &fetch;
  sampling_ = &fetch;
}

void Prefetch::stage_sampling(Fetch& fetch, const SamplingSequence& sampling) {
  Known& known = known_.at(sampling.sequence);
  canonicalize(known, sampling.tokens);
  const int64_t position = std::ssize(sampling.tokens);
  add_window(known, position + 1, &fetch.windows);
  fetch.sampled.push_back(sampling.id);
  fetch.owners.push_back({known.request, sampling.sequence, {}, position, 1});
}

// On the compute stream's thread.
void Prefetch::hash_sampled(Fetch& fetch) {
  const int64_t begin_ns = ns_now();
  for (size_t t = 0; t < fetch.sampled.size(); ++t) {
    const std::span<int32_t> window =
        std::span(fetch.windows).subspan(t * memory::kWindow, memory::kWindow);
    window.back() = token_map_.of(*fetch.sampled[t]);
    const int64_t known = std::min<int64_t>(memory::kWindow, fetch.owners[t].begin + 1);
    const std::span<const int32_t> ids = window.last(static_cast<size_t>(known));
    for (size_t l = 0; l < layers_.size(); ++l) {
      const memory::TableGeometry& g = layers_[l]->store->geometry();
      int64_t* rows = fetch.row_ids[l].data() + static_cast<int64_t>(t) * g.columns();
      hash_rows(g, ids, known - 1, known, rows);
    }
  }
  const int64_t end_ns = ns_now();
  fetch.hash_ns = end_ns - begin_ns;
  layers_[order_.front()]->held_up_ns += held_up_ns(fetch, begin_ns, end_ns);
}

// Who goes on has its rows on the way.
void Prefetch::keep_sampled(std::span<const FetchRange> ranges) {
  if (sampling_ == nullptr) return;
  Fetch& fetch = *std::exchange(sampling_, nullptr);
  for (size_t t = 0; t < fetch.owners.size(); ++t) {
    Owner& owner = fetch.owners[t];
    const auto wanted = std::ranges::find(ranges, owner.sequence, &FetchRange::sequence);
    if (wanted == ranges.end()) {
      owner.tokens = 0;
      free_slot(fetch.slots[t]);
      continue;
    }
    ENGRAM_CHECK(wanted->begin == owner.begin && wanted->end == owner.begin + 1);
    known_.at(owner.sequence).staged.add({owner.begin, fetch.slots[t], fetch.serial});
    ++early_tokens_;
  }
  uncounted_.push_back(&fetch);
  unsettled_.push_back(&fetch);
}

void Prefetch::fetch_sampled(std::span<const FetchRange> ranges) {
  keep_sampled(ranges);
  if (!in_step_.empty()) {
    for (const FetchRange& range : ranges) canonicalize(known_.at(range.sequence), range.tokens);
    return;
  }
  if (!fetches_ahead() || left_to_step(std::ssize(ranges))) return;
  const auto staged = [this](const FetchRange& r) { return staged_tokens(r) == r.end - r.begin; };
  if (std::ranges::all_of(ranges, staged)) return;
  Fetch& fetch = next_fetch();
  fetch.for_step = true;
  const int64_t begin_ns = ns_now();
  for (const FetchRange& range : ranges) {
    stage(fetch, range, std::clamp<int64_t>(room_ahead(), 0, free_slots()), true);
  }
  fetch.hash_ns = ns_now() - begin_ns;
  if (fetch.tokens > 0) enqueue(fetch);
}

// REQUIRES: the fetch is finished.
void Prefetch::leave_out_unwanted(Fetch& fetch) {
  const auto wanted = [](const Owner& owner) { return owner.tokens > 0; };
  if (std::ranges::all_of(fetch.owners, wanted)) return;
  for (std::vector<int64_t>& ids : fetch.row_ids) {
    const int64_t columns = std::ssize(ids) / std::ssize(fetch.owners);
    auto to = ids.begin();
    auto from = ids.begin();
    for (const Owner& owner : fetch.owners) {
      if (owner.tokens > 0) to = std::copy_n(from, columns, to);
      from += columns;
    }
    ids.erase(to, ids.end());
  }
  std::erase_if(fetch.owners, std::not_fn(wanted));
}

}  // namespace engram::engine

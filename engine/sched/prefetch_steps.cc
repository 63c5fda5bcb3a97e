// Decode steps that gather their rows themselves: what they are told, and what is counted of them.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "engine/sched/prefetch.h"
#include "memory/table/row_hash.h"

namespace engram::engine {
namespace {

using SteadyClock = std::chrono::steady_clock;

}  // namespace

bool Prefetch::left_to_step(int64_t tokens) const {
  return steps_ != nullptr && fetches_ahead() && verifier_ == nullptr && quarantined_.empty() &&
         steps_->serves(tokens);
}

// The kWindow ids before position `end`; kNoToken before the sequence's begin, and for the last one
// while it is being sampled.
void Prefetch::add_window(const Known& known, int64_t end, std::vector<int32_t>* to) {
  for (int64_t position = end - memory::kWindow; position < end; ++position) {
    const bool is_known = position >= 0 && position < std::ssize(known.canonical);
    to->push_back(is_known ? known.canonical[static_cast<size_t>(position)] : memory::kNoToken);
  }
}

bool Prefetch::may_run_ahead(int64_t tokens) const {
  return !fetches() || (!windows_.empty() && left_to_step(tokens));
}

// What was fetched ahead for its tokens is not needed.
std::span<const int32_t> Prefetch::leave_to_step(
    const BatchPlan& plan, std::span<const std::span<const int32_t>> tokens_of) {
  ++self_fed_steps_;
  Fetch& fetch = next_fetch();
  fetch.by_step = true;
  fetch.tokens = plan.tokens();
  std::vector<InStep>& in_step = plan.ahead() ? in_step_ahead_ : in_step_;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const PlannedSequence& p = plan.sequences[i];
    Known& known = known_.at(p.sequence);
    canonicalize(known, tokens_of[i]);
    free_staged(known, 0, p.begin + 1);
    add_window(known, p.begin + 1, &windows_);
    fetch.owners.push_back({known.request, p.sequence, {}, p.begin, 1});
    in_step.push_back({{.slot = -1, .serial = fetch.serial}, known.request});
  }
  uncounted_.push_back(&fetch);
  step_slots_.resize(static_cast<size_t>(plan.tokens()));
  std::iota(step_slots_.begin(), step_slots_.end(), 0);
  return step_slots_;
}

// Not while its tokens are being sampled.
bool Prefetch::can_hash(const Fetch& fetch) const {
  return std::ranges::all_of(fetch.owners, [this](const Owner& owner) {
    return owner.tokens == 0 || owner.begin < std::ssize(known_.at(owner.sequence).canonical);
  });
}

void Prefetch::hash_left_to_step(Fetch& fetch) {
  const SteadyClock::time_point begin = SteadyClock::now();
  std::erase_if(fetch.owners, [](const Owner& owner) { return owner.tokens == 0; });
  for (size_t l = 0; l < layers_.size(); ++l) {
    const memory::TableGeometry& g = layers_[l]->store->geometry();
    std::vector<int64_t>& ids = fetch.row_ids[l];
    ids.resize(fetch.owners.size() * static_cast<size_t>(g.columns()));
    int64_t* to = ids.data();
    for (const Owner& owner : fetch.owners) {
      const std::vector<int32_t>& canonical = known_.at(owner.sequence).canonical;
      hash_rows(g, canonical, owner.begin, owner.begin + 1, to);
      to += g.columns();
    }
    count_rows(fetch, l);
    layers_[l]->store->count_rows(std::ssize(ids));
  }
  fetch.hash_ns = std::chrono::nanoseconds(SteadyClock::now() - begin).count();
  hash_ns_ += fetch.hash_ns;
}

}  // namespace engram::engine

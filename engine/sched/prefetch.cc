#include "engine/sched/prefetch.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <string>

namespace engram::engine {
namespace {

using memory::Status;
using SteadyClock = std::chrono::steady_clock;

int64_t ns_since(SteadyClock::time_point begin) {
  return std::chrono::nanoseconds(SteadyClock::now() - begin).count();
}

}  // namespace

void Prefetch::add(uint64_t sequence, uint64_t request) {
  known_[sequence].request = request;
  usage_[request];
}

// A failure that is noticed later is nobody's.
void Prefetch::free_slot(int32_t slot) {
  free_.give_back(slot);
  slot_serial_[static_cast<size_t>(slot)] = 0;
  failed_.erase(slot);
}

void Prefetch::free_staged(Known& known, int64_t begin, int64_t end) {
  for (const StagedToken& token : known.staged.range(begin, end)) free_slot(token.slot);
  known.staged.erase(begin, end);
}

void Prefetch::free_failed(Known& known, int64_t begin, int64_t end) {
  for (int64_t position = begin; position < end; ++position) {
    const std::span<const StagedToken> found = known.staged.range(position, position + 1);
    if (!found.empty() && failed_.contains(found.front().slot)) {
      free_staged(known, position, position + 1);
    }
  }
}

void Prefetch::drop(uint64_t sequence) {
  free_staged(known_.at(sequence), 0, INT64_MAX);
}

void Prefetch::forget(uint64_t sequence) {
  drop(sequence);
  // It is in a step ahead in vain.
  for (Fetch* fetch : uncounted_) {
    const auto owner = std::ranges::find(fetch->owners, sequence, &Owner::sequence);
    if (fetch->by_step && owner != fetch->owners.end()) owner->tokens = 0;
  }
  known_.erase(sequence);
}

Prefetch::Fetch& Prefetch::next_fetch() {
  Fetch& fetch = *ring_[++serial_ % ring_.size()];
  fetch.finished->synchronize();
  count_fetched();
  settle_if([&](const Fetch& done) { return &done == &fetch; });
  fetch.serial = serial_;
  fetch.tokens = 0;
  fetch.in_compute = false;
  fetch.by_step = false;
  fetch.when_sampled = false;
  fetch.while_step_ns = 0;
  fetch.for_step = false;
  fetch.hash_ns = 0;
  fetch.gather_ns.store(0);
  fetch.slots.clear();
  for (std::vector<int64_t>& ids : fetch.row_ids) ids.clear();
  // A device that fails may never come to what tells it anew.
  std::ranges::fill(fetch.failures, Failure{});
  fetch.owners.clear();
  fetch.chosen.clear();
  fetch.verified.reset();
  return fetch;
}

void Prefetch::canonicalize(Known& known, std::span<const int32_t> tokens) const {
  for (size_t i = known.canonical.size(); i < tokens.size(); ++i) {
    known.canonical.push_back(token_map_.of(tokens[i]));
  }
}

int64_t Prefetch::staged_tokens(const FetchRange& range) const {
  return known_.at(range.sequence).staged.count(range.begin, range.end);
}

// Adds the range's tokens that are not staged yet, at most `most` of them. apart: in the slots of
// decode steps.
void Prefetch::stage(Fetch& fetch, const FetchRange& range, int64_t most, bool apart) {
  Known& known = known_.at(range.sequence);
  canonicalize(known, range.tokens);
  int64_t begin = range.begin;
  while (begin < range.end && most > 0) {
    if (known.staged.contains(begin)) {
      ++begin;
      continue;
    }
    int64_t end = begin;
    if (!apart && range.end - begin > 1) free_.seek_run(std::min(range.end - begin, most));
    while (end < range.end && end - begin < most && !known.staged.contains(end)) {
      const int32_t slot = apart ? free_.take_apart() : free_.take();
      fetch.slots.push_back(slot);
      known.staged.add({end++, slot, fetch.serial});
      slot_serial_[static_cast<size_t>(slot)] = fetch.serial;
    }
    for (size_t l = 0; l < layers_.size(); ++l) {
      const memory::TableGeometry& g = layers_[l]->store->geometry();
      std::vector<int64_t>& ids = fetch.row_ids[l];
      const size_t before = ids.size();
      ids.resize(before + static_cast<size_t>((end - begin) * g.columns()));
      hash_rows(g, known.canonical, begin, end, ids.data() + before);
      if (!quarantined_.empty()) mark_quarantined(fetch, l, fetch.tokens);
    }
    fetch.tokens += end - begin;
    most -= end - begin;
    fetch.owners.push_back({known.request, range.sequence, range.tokens, begin, end - begin});
    begin = end;
  }
}

// Slots for tokens that are fetched ahead: the whole of the next step finds some, whoever will be
// in it.
int64_t Prefetch::room_ahead() const {
  const int64_t ahead = slots_ - free_slots() - static_cast<int64_t>(in_step_.size());
  return slots_ - limits_.max_num_batched_tokens - ahead;
}

void Prefetch::look_ahead(std::span<const FetchRange> expected) {
  count_fetched();
  settle_if([](const Fetch& fetch) { return fetch.finished->done(); });
  if (!fetches_ahead()) return;
  std::map<uint64_t, const FetchRange*> by_sequence;
  for (const FetchRange& range : expected) by_sequence[range.sequence] = &range;
  for (auto& [id, known] : known_) {
    const auto found = by_sequence.find(id);
    if (found == by_sequence.end()) {
      free_staged(known, 0, INT64_MAX);
    } else {
      free_staged(known, 0, found->second->begin);
      free_staged(known, found->second->end, INT64_MAX);
    }
  }
  int64_t room = std::min(room_ahead() - limits_.max_num_seqs, free_slots());
  Fetch* fetch = nullptr;
  for (const FetchRange& range : expected) {
    if (room <= 0) break;
    if (staged_tokens(range) == range.end - range.begin) continue;
    const SteadyClock::time_point begin = SteadyClock::now();
    if (fetch == nullptr) fetch = &next_fetch();
    const int64_t before = fetch->tokens;
    stage(*fetch, range, room, false);
    room -= fetch->tokens - before;
    fetch->hash_ns += ns_since(begin);
  }
  if (fetch != nullptr && fetch->tokens > 0) enqueue(*fetch);
}

int64_t Prefetch::use_stores(std::span<const std::unique_ptr<memory::RowStore>> stores) {
  ENGRAM_CHECK(in_step_.empty() && sampling_ == nullptr);
  if (layers_.empty()) return 0;
  ENGRAM_CHECK(stores.size() == layers_.size());
  drain();
  const int64_t before = free_slots();
  for (auto& [id, known] : known_) free_staged(known, 0, INT64_MAX);
  for (size_t l = 0; l < layers_.size(); ++l) {
    ENGRAM_CHECK(stores[l]->geometry().vector_width() == layers_[l]->view.cols);
    use_store(*layers_[l], *stores[l]);
    find_direct(*layers_[l]);
  }
  tell_steps();
  quarantined_.clear();
  return free_slots() - before;
}

void Prefetch::drain() {
  count_all_fetched();
  for (const std::unique_ptr<Fetch>& fetch : ring_) fetch->finished->synchronize();
  settle_if([](const Fetch&) { return true; });
}

void Prefetch::use_verifier(RowVerifier* verifier) {
  drain();
  verifier_ = verifier;
}

std::span<const int32_t> Prefetch::prepare(
    const BatchPlan& plan, std::span<const std::span<const int32_t>> tokens_of) {
  ENGRAM_CHECK(in_step_.empty() || plan.ahead());
  ENGRAM_CHECK(in_step_ahead_.empty());
  ENGRAM_CHECK(!plan.ahead() || may_run_ahead(plan.tokens()));
  ENGRAM_CHECK(tokens_of.size() == plan.sequences.size());
  step_slots_.clear();
  windows_.clear();
  step_serial_ = 0;
  late_serial_ = 0;
  if (!has_tickets()) return {};
  if (mode_ == FetchMode::kZero) {
    step_slots_.resize(static_cast<size_t>(plan.tokens()));
    std::iota(step_slots_.begin(), step_slots_.end(), 0);
    return step_slots_;
  }
  settle_if([](const Fetch& fetch) { return fetch.finished->done() && failed(fetch); });
  if (plan.decodes() && left_to_step(plan.tokens())) return leave_to_step(plan, tokens_of);
  Fetch* fetch = nullptr;
  const SteadyClock::time_point begin = SteadyClock::now();
  const bool decodes = plan.tokens() == std::ssize(plan.sequences);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const PlannedSequence& p = plan.sequences[i];
    Known& known = known_.at(p.sequence);
    free_staged(known, 0, p.begin);
    const FetchRange range{p.sequence, tokens_of[i], p.begin, p.begin + p.count};
    if (!failed_.empty()) free_failed(known, range.begin, range.end);
    if (staged_tokens(range) == p.count) continue;
    if (fetch == nullptr) fetch = &next_fetch();
    stage(*fetch, range, p.count, decodes);
  }
  if (fetch != nullptr && fetch->tokens > 0) {
    fetch->for_step = true;
    fetch->hash_ns = ns_since(begin);
    late_tokens_ += fetch->tokens;
    late_serial_ = fetch->serial;
    enqueue(*fetch);
  }
  for (const PlannedSequence& p : plan.sequences) {
    Known& known = known_.at(p.sequence);
    const int64_t end = p.begin + p.count;
    const std::span<const StagedToken> staged = known.staged.range(p.begin, end);
    ENGRAM_CHECK(std::ssize(staged) == p.count);
    for (const StagedToken& at : staged) {
      step_slots_.push_back(at.slot);
      const Fetch& from = *ring_[at.serial % ring_.size()];
      if (from.serial == at.serial) step_serial_ = std::max(step_serial_, at.serial);
      in_step_.push_back({at, known.request});
    }
    known.staged.erase(p.begin, end);
  }
  return step_slots_;
}

std::vector<Ticket> Prefetch::tickets() {
  std::vector<Ticket> tickets;
  if (!has_tickets()) return tickets;
  step_begin_ns_ = std::chrono::nanoseconds(SteadyClock::now().time_since_epoch()).count();
  tickets.reserve(layers_.size());
  const auto gap = [](int32_t slot, int32_t next) { return next != slot + 1; };
  const bool in_order =
      !step_slots_.empty() && std::ranges::adjacent_find(step_slots_, gap) == step_slots_.end();
  const Fetch* fetch = ring_[step_serial_ % ring_.size()].get();
  for (size_t l = 0; l < layers_.size(); ++l) {
    // The side stream is a FIFO: the newest fetch's event stands for all before it. An entry that
    // was used again since had been waited for then. What the compute stream gathers, it gathers
    // when the side stream is done, and before the step.
    const bool in_flight = mode_ == FetchMode::kPrefetch && step_serial_ != 0 &&
                           fetch->serial == step_serial_ && !fetch->in_compute;
    const memory::Event* gathered =
        fetch->for_step ? layers_[l]->ready.get() : fetch->gathered[l].get();
    StagedRows staged{
        .ready = in_flight ? gathered : nullptr,
        .waited_ns = layers_[l]->waited_ns,
        .rows = layers_[l]->view,
        .in_step_order = in_order};
    if (in_order) staged.rows = staged.rows.row_range(step_slots_.front(), std::ssize(step_slots_));
    tickets.emplace_back(staged);
  }
  return tickets;
}

std::vector<StagedRows> Prefetch::standing_rows() const {
  std::vector<StagedRows> rows;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    rows.push_back(
        {.ready = layer->ready.get(), .waited_ns = layer->waited_ns, .rows = layer->view});
  }
  return rows;
}

StepFetch Prefetch::commit(const BatchPlan& plan) {
  step_begin_ns_ = INT64_MAX;
  if (!fetches()) return {};
  ENGRAM_CHECK(static_cast<int64_t>(in_step_.size()) == plan.tokens());
  count_fetched();
  int64_t waited_ns = 0;
  for (const std::unique_ptr<Layer>& layer : layers_) waited_ns += layer->exposed_wait_ns();
  StepFetch step;
  step.exposed_wait_ns = waited_ns - std::exchange(waited_before_ns_, waited_ns);
  settle_if([this](const Fetch& fetch) { return fetch.serial <= step_serial_; });
  step.missing = find_missing(plan);
  for (const InStep& token : in_step_) {
    if (token.at.slot >= 0) free_slot(token.at.slot);
  }
  if (step.exposed_wait_ns > 0) count_wait(step.exposed_wait_ns);
  in_step_.clear();
  in_step_.swap(in_step_ahead_);
  return step;
}

}  // namespace engram::engine

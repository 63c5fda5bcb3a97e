#include "engine/sched/scheduler.h"

#include <algorithm>
#include <utility>

#include "memory/base/status.h"

namespace engram::engine {

Scheduler::Scheduler(const SchedulerLimits& limits, memory::PagePool& pool)
    : limits_(limits), pool_(pool) {
  ENGRAM_CHECK(limits.max_num_seqs > 0);
  ENGRAM_CHECK(limits.max_num_batched_tokens >= limits.max_num_seqs);
}

void Scheduler::add(Sequence sequence) {
  ENGRAM_CHECK(sequences_.empty() || sequences_.rbegin()->first < sequence.id);
  ENGRAM_CHECK(sequence.size() > 0);
  ENGRAM_CHECK(sequence.prompt_tokens == sequence.size());
  sequence.share_prefix = sequence.share_prefix && limits_.prefix_caching;
  const uint64_t id = sequence.id;
  waiting_.insert(id);
  sequences_.emplace(id, std::make_unique<Sequence>(std::move(sequence)));
}

void Scheduler::finish(uint64_t id) {
  pool_.release(get(id).pages);
  running_.erase(id);
  waiting_.erase(id);
  sequences_.erase(id);
}

const Sequence* Scheduler::find(uint64_t id) const {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

// Logits exist only of what is computed, so a prompt whose logits are wanted is computed whole.
bool Scheduler::may_look_up(const Sequence& s) const {
  return s.share_prefix && (!s.prompt_logits || s.prompt_logits_done >= s.prompt_tokens - 1);
}

// Versions hold no zero byte, so that no two pairs read the same.
std::string Scheduler::salt_of(const Sequence& s) const {
  std::string salt = tables_;
  return salt.append(1, '\0').append(s.salt);
}

void Scheduler::use_tables(std::string version) {
  ENGRAM_CHECK(in_step_ == 0);
  tables_ = std::move(version);
  for (const uint64_t id : running_) get(id).mixed = true;
}

bool Scheduler::must_wait_for_another(const Sequence& s) const {
  if (!s.after.has_value() || !s.share_prefix) return false;
  const Sequence* first = find(*s.after);
  return first != nullptr && first->computed < first->prompt_tokens;
}

BatchPlan Scheduler::plan() {
  ENGRAM_CHECK(in_step_ == 0);
  BatchPlan plan;
  plan.step = ++stats_.steps;
  plan.token_begin.push_back(0);
  grow_decodes(plan);
  plan_running(plan, true);
  plan_running(plan, false);
  // Who just lost its pages would only lose them again.
  if (plan.preempted.empty()) admit(plan);
  fill_page_table(plan);
  ++in_step_;
  return plan;
}

std::optional<BatchPlan> Scheduler::plan_ahead(std::span<const SamplingRow> sampling) {
  ENGRAM_CHECK(in_step_ == 1);
  const auto prompt_goes_on = [this](uint64_t id) {
    const Sequence& s = get(id);
    return s.computed + s.planned < s.size();
  };
  const bool may_admit =
      !waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_num_seqs;
  if (sampling.empty() || may_admit || std::ranges::any_of(running_, prompt_goes_on)) return {};
  if (!take_pages_ahead(sampling)) return {};
  BatchPlan plan;
  plan.step = ++stats_.steps;
  plan.token_begin.push_back(0);
  std::vector<SamplingRow> ordered(sampling.begin(), sampling.end());
  std::ranges::sort(ordered, {}, &SamplingRow::sequence);  // as in plan()
  for (const SamplingRow& from : ordered) {
    Sequence& s = get(from.sequence);
    const PlannedSequence p{
        .sequence = s.id,
        .begin = s.size(),
        .count = 1,
        .token_begin = plan.tokens(),
        .samples = true};
    plan.logit_tokens.push_back(static_cast<int32_t>(plan.tokens()));
    plan.sampled_from.push_back(static_cast<int32_t>(from.row));
    append_token(plan, s, s.size(), 0);
    append_sequence(plan, s, p);
  }
  fill_page_table(plan);
  ++in_step_;
  return plan;
}

// A page more for each sequence whose pages are full; for all of them, or none.
bool Scheduler::take_pages_ahead(std::span<const SamplingRow> sampling) {
  std::vector<Sequence*> full;
  for (const SamplingRow& row : sampling) {
    Sequence& s = get(row.sequence);
    if (pool_.pages_for(s.size() + 1) > std::ssize(s.pages.pages)) full.push_back(&s);
  }
  if (std::ssize(full) > pool_.free_pages()) return false;
  for (Sequence* s : full) ENGRAM_CHECK(pool_.allocate(s->pages, 1));
  return true;
}

// Prompts hold all their pages since their admission; only a generated token can need a new one.
void Scheduler::grow_decodes(BatchPlan& plan) {
  for (auto next = running_.begin(); next != running_.end();) {
    const uint64_t id = *next;
    Sequence& s = get(id);
    while (s.running && pool_.pages_for(s.size()) > static_cast<int64_t>(s.pages.pages.size()) &&
           !pool_.allocate(s.pages, 1)) {
      preempt_newest(plan);
    }
    next = running_.upper_bound(id);
  }
}

void Scheduler::preempt_newest(BatchPlan& plan) {
  // The pool holds any single sequence, so the last one never gets here.
  ENGRAM_CHECK(running_.size() > 1);
  const uint64_t id = *running_.rbegin();
  Sequence& s = get(id);
  pool_.release(s.pages);
  s.computed = 0;
  s.running = false;
  s.mixed = false;
  running_.erase(id);
  waiting_.insert(id);
  ++stats_.preemptions;
  plan.preempted.push_back(id);
}

void Scheduler::plan_running(BatchPlan& plan, bool decodes) {
  for (const uint64_t id : running_) {
    if (room(plan) == 0) return;
    Sequence& s = get(id);
    if ((s.size() - s.computed == 1) == decodes) append(plan, s);
  }
}

void Scheduler::admit(BatchPlan& plan) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (room(plan) == 0) return;
    if (static_cast<int64_t>(running_.size()) >= limits_.max_num_seqs) return;
    const uint64_t id = *next;
    Sequence& s = get(id);
    if (must_wait_for_another(s)) {
      ++next;
      continue;
    }
    // The oldest that does not fit keeps those behind it waiting: else it might wait for ever.
    if (!take_pages(s)) return;
    s.running = true;
    ++s.admissions;
    next = waiting_.erase(next);
    running_.insert(id);
    append(plan, s);
  }
}

// All pages of the known tokens at once, so that a prompt begun is never short of pages, and one
// page per running sequence is left over, so that the next steps do not preempt at once.
bool Scheduler::take_pages(Sequence& s) {
  int64_t found = 0;
  if (may_look_up(s)) found = pool_.acquire_prefix(s.pages, s.tokens, salt_of(s));
  const int64_t missing = pool_.pages_for(s.size()) - static_cast<int64_t>(s.pages.pages.size());
  const int64_t spare = static_cast<int64_t>(running_.size());
  if (missing + spare > pool_.free_pages() || !pool_.allocate(s.pages, missing)) {
    pool_.release(s.pages);
    return false;
  }
  s.computed = found;
  if (may_look_up(s)) {
    stats_.prefix_queries_tokens += s.size();
    stats_.prefix_hit_tokens += found;
  }
  if (s.admissions == 0) s.cached_tokens = found;
  return true;
}

void Scheduler::append(BatchPlan& plan, Sequence& s) {
  PlannedSequence p;
  p.sequence = s.id;
  p.begin = s.computed;
  p.count = std::min(s.size() - s.computed, room(plan));
  p.token_begin = plan.tokens();
  p.samples = p.begin + p.count == s.size();
  for (int64_t position = p.begin; position < p.begin + p.count; ++position) {
    const size_t at = static_cast<size_t>(position);
    const bool last = position + 1 == s.size();
    const bool prompt_logits =
        s.prompt_logits && position >= s.prompt_logits_done && position + 1 < s.prompt_tokens;
    if (last || prompt_logits) plan.logit_tokens.push_back(static_cast<int32_t>(plan.tokens()));
    append_token(plan, s, position, s.tokens[at]);
  }
  append_sequence(plan, s, p);
}

void Scheduler::append_token(
    BatchPlan& plan, const Sequence& s, int64_t position, int32_t id) const {
  const int64_t page_tokens = pool_.page_tokens();
  const int64_t page = s.pages.pages[static_cast<size_t>(position / page_tokens)];
  plan.slots.push_back(static_cast<int32_t>(page * page_tokens + position % page_tokens));
  plan.positions.push_back(static_cast<int32_t>(position));
  plan.sequence_of.push_back(static_cast<int32_t>(plan.sequences.size()));
  plan.ids.push_back(id);
}

// Behind its tokens.
void Scheduler::append_sequence(BatchPlan& plan, Sequence& s, const PlannedSequence& p) const {
  s.planned += p.count;
  plan.sequences.push_back(p);
  plan.token_begin.push_back(static_cast<int32_t>(plan.tokens()));
  plan.max_pages = std::max(plan.max_pages, pool_.pages_for(p.begin + p.count));
}

void Scheduler::fill_page_table(BatchPlan& plan) const {
  const size_t width = static_cast<size_t>(plan.max_pages);
  plan.page_table.assign(plan.sequences.size() * width, -1);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const PlannedSequence& p = plan.sequences[i];
    const std::vector<int32_t>& pages = get(p.sequence).pages.pages;
    const int64_t used = pool_.pages_for(p.begin + p.count);
    std::copy_n(pages.begin(), used, plan.page_table.begin() + static_cast<int64_t>(i * width));
  }
}

void Scheduler::commit(
    const BatchPlan& plan, std::span<const int32_t> ids, const std::set<uint64_t>& undone) {
  ENGRAM_CHECK(in_step_ > 0);
  --in_step_;
  size_t sampled = 0;
  for (const PlannedSequence& p : plan.sequences) {
    if (!sequences_.contains(p.sequence)) continue;
    Sequence& s = get(p.sequence);
    s.planned -= p.count;
    if (undone.contains(p.sequence)) continue;
    s.computed += p.count;
    s.prompt_logits_done =
        std::max(s.prompt_logits_done, std::min(s.computed, s.prompt_tokens - 1));
    if (s.share_prefix && !s.mixed) {
      pool_.publish(
          s.pages, std::span(s.tokens).first(static_cast<size_t>(s.computed)), salt_of(s));
    }
    if (p.samples) {
      ENGRAM_CHECK(sampled < ids.size());
      s.tokens.push_back(ids[sampled++]);
    }
  }
  ENGRAM_CHECK(sampled == ids.size());
}

std::vector<UpcomingTokens> Scheduler::upcoming(int64_t limit) const {
  std::vector<UpcomingTokens> result;
  const auto take = [&](const Sequence& s, int64_t begin) {
    const int64_t count = std::min(s.size() - begin, limit);
    if (count <= 0) return;
    result.push_back({s.id, begin, begin + count});
    limit -= count;
  };
  for (const uint64_t id : running_) take(get(id), get(id).computed + get(id).planned);
  for (const uint64_t id : waiting_) {
    if (limit == 0) break;
    const Sequence& s = get(id);
    if (must_wait_for_another(s)) continue;
    take(s, may_look_up(s) ? pool_.match_prefix(s.tokens, salt_of(s)) : 0);
  }
  return result;
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  return stats;
}

}  // namespace engram::engine

// Who runs in the next step: continuous batching over the page pool, pure decisions.
//
// No device, no clock, no randomness: the same calls in the same order give the same plans. One
// thread (the engine's).
//
// Order of service is the order of arrival, ids rise with it, and it never changes: in a step
// first every running sequence that needs one token, then prompts being computed, then waiting
// ones, the oldest first in each group. When pages run out the newest running sequence gives its
// pages back and waits to be computed again, prompt and generated tokens alike. The oldest
// sequence is therefore in every step, and as every sequence becomes the oldest, none starves.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/sched/batch_plan.h"
#include "memory/kv/page_pool.h"

namespace engram::engine {

// One choice of one request. The first group is given to add(), the second belongs to Scheduler.
struct Sequence {
  uint64_t id = 0;              // rises with arrival
  std::vector<int32_t> tokens;  // the prompt, then what was generated
  int64_t prompt_tokens = 0;
  bool share_prefix = true;    // take and leave pages in the prefix index
  std::string salt;            // of the prefix index
  bool prompt_logits = false;  // logits of the prompt's positions are wanted, once
  // Waits until that sequence has computed its prompt (or is gone), to share its pages.
  std::optional<uint64_t> after;

  bool running = false;
  bool mixed = false;              // computed with more than one version of the tables
  int64_t computed = 0;            // tokens in the cache
  int64_t planned = 0;             // tokens of the steps being run
  int64_t prompt_logits_done = 0;  // positions whose logits were handed out
  int64_t cached_tokens = 0;       // found in the prefix index at the first admission
  int64_t admissions = 0;
  memory::PageList pages;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t generated() const { return size() - prompt_tokens; }
};

// A sequence that samples in the step being run, and the row of the step's logits it does from.
struct SamplingRow {
  uint64_t sequence = 0;
  size_t row = 0;
};

struct SchedulerLimits {
  int64_t max_num_seqs = 64;
  int64_t max_num_batched_tokens = 512;  // at least max_num_seqs
  bool prefix_caching = true;
};

struct SchedulerStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t steps = 0;
  int64_t preemptions = 0;
  int64_t prefix_queries_tokens = 0;  // prompt tokens looked up in the prefix index
  int64_t prefix_hit_tokens = 0;
};

// Tokens [begin, end) of a sequence, expected to run in a coming step.
struct UpcomingTokens {
  uint64_t sequence = 0;
  int64_t begin = 0;
  int64_t end = 0;
};

class Scheduler {
 public:
  // The pool outlives the scheduler.
  Scheduler(const SchedulerLimits& limits, memory::PagePool& pool);

  // REQUIRES: ids rise; the whole pool can hold the sequence at its greatest length.
  void add(Sequence sequence);
  // Forgets a sequence and gives its pages back. REQUIRES: known; if a step it is in is being run,
  // whatever uses its pages next runs after that.
  void finish(uint64_t id);
  // Null if unknown. Valid until finish().
  const Sequence* find(uint64_t id) const;

  // The next step; without tokens if there is nothing to do. REQUIRES: the last one is committed.
  BatchPlan plan();
  // The step after the one being run, whose results nobody knows yet: the next token of each of
  // these sequences, which it samples. Nothing if that step may have anything else to do, such as
  // another sequence's prompt, or to wait for pages. REQUIRES: one plan is being run.
  std::optional<BatchPlan> plan_ahead(std::span<const SamplingRow> sampling);
  // The oldest step being run was run: its tokens are in the cache, and ids[i] follows the i-th
  // sequence of the plan that samples and was not finished meanwhile. For the sequences in `undone`
  // nothing happened: they have no entry in `ids`, and their tokens are planned again.
  void commit(
      const BatchPlan& plan, std::span<const int32_t> ids, const std::set<uint64_t>& undone = {});

  // From now on tokens are computed with other n-gram tables, named by `version`. What is computed
  // with one version is never found by sequences of another, and what a running sequence computes
  // with both is kept from the prefix index. REQUIRES: no plan is being run.
  void use_tables(std::string version);

  // Known tokens that will run after the step being run, at most `limit` of them.
  std::vector<UpcomingTokens> upcoming(int64_t limit) const;

  bool empty() const { return sequences_.empty(); }
  SchedulerStats stats() const;

 private:
  Sequence& get(uint64_t id) { return *sequences_.at(id); }
  const Sequence& get(uint64_t id) const { return *sequences_.at(id); }
  bool may_look_up(const Sequence& s) const;
  std::string salt_of(const Sequence& s) const;
  bool must_wait_for_another(const Sequence& s) const;
  void grow_decodes(BatchPlan& plan);
  void plan_running(BatchPlan& plan, bool decodes);
  void admit(BatchPlan& plan);
  bool take_pages(Sequence& s);
  bool take_pages_ahead(std::span<const SamplingRow> sampling);
  void preempt_newest(BatchPlan& plan);
  void append(BatchPlan& plan, Sequence& s);
  void append_token(BatchPlan& plan, const Sequence& s, int64_t position, int32_t id) const;
  void append_sequence(BatchPlan& plan, Sequence& s, const PlannedSequence& p) const;
  void fill_page_table(BatchPlan& plan) const;
  int64_t room(const BatchPlan& plan) const {
    return limits_.max_num_batched_tokens - plan.tokens();
  }

  SchedulerLimits limits_;
  memory::PagePool& pool_;
  std::map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  std::set<uint64_t> running_;
  std::set<uint64_t> waiting_;
  int in_step_ = 0;     // plans being run
  std::string tables_;  // version
  SchedulerStats stats_;
};

}  // namespace engram::engine

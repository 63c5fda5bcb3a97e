// The scheduler with a fake runner: thousands of seeded steps of random arrivals, aborts and
// lengths on a pool that is too small, invariants after each step. The fake cache remembers for
// every slot which prefix its content stands for, so a page that is shared, evicted or rewritten
// wrongly is seen by the sequence that reads it.
#include "engine/sched/scheduler.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace engram::engine {
namespace {

uint64_t mix(uint64_t h, uint64_t value) {
  h = (h ^ value) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}

struct Setup {
  int64_t pages = 40;
  int page_tokens = 4;
  SchedulerLimits limits{.max_num_seqs = 8, .max_num_batched_tokens = 24};
  int64_t longest = 100;  // of one sequence; fits the pool
  int arrivals = 300;
  bool aborts = true;
  bool ahead = true;  // steps are planned while the one before them runs, where that can be
};

bool same_plan(const BatchPlan& a, const BatchPlan& b) {
  const auto same_sequence = [](const PlannedSequence& x, const PlannedSequence& y) {
    return x.sequence == y.sequence && x.begin == y.begin && x.count == y.count &&
           x.token_begin == y.token_begin && x.samples == y.samples;
  };
  return a.step == b.step && a.ids == b.ids && a.positions == b.positions && a.slots == b.slots &&
         a.sequence_of == b.sequence_of && a.token_begin == b.token_begin &&
         a.max_pages == b.max_pages && a.page_table == b.page_table &&
         a.logit_tokens == b.logit_tokens && a.preempted == b.preempted &&
         a.sampled_from == b.sampled_from &&
         std::ranges::equal(a.sequences, b.sequences, same_sequence);
}

class World {
 public:
  World(const Setup& setup, uint64_t seed)
      : setup_(setup),
        random_(seed),
        pool_(setup.pages, setup.page_tokens),
        twin_pool_(setup.pages, setup.page_tokens),
        scheduler_(setup.limits, pool_),
        twin_(setup.limits, twin_pool_),
        content_(static_cast<size_t>(setup.pages * setup.page_tokens)) {}

  void run() {
    std::optional<BatchPlan> running;
    for (int64_t step = 0; arrived_ < setup_.arrivals || !scheduler_.empty() || running; ++step) {
      REQUIRE(step < 100000);
      arrive();
      abort_some();
      if (!running) running = next_plan();
      check_upcoming();
      std::optional<BatchPlan> ahead = plan_ahead(*running);
      compute(*running);
      commit(*running);
      check_pages();
      running = std::move(ahead);
    }
    REQUIRE(pool_.free_pages() == pool_.pages());
    REQUIRE(finished_ + aborted_ == arrived_);
  }

  SchedulerStats stats() const { return scheduler_.stats(); }
  int64_t shared_logits() const { return prompt_logits_; }
  int64_t ahead() const { return ahead_; }
  int64_t computed_in_vain() const { return in_vain_; }

 private:
  struct Live {
    std::vector<int32_t> tokens;
    int64_t prompt = 0;
    int64_t target = 0;  // generated tokens at which it ends
    std::string salt;
    bool share = true;
    bool prompt_logits = false;
    std::set<int64_t> logits_seen;
  };

  void arrive() {
    while (arrived_ < setup_.arrivals && random_() % 3 == 0) {
      Live live;
      const int64_t size = 1 + static_cast<int64_t>(random_() % 60);
      for (int64_t i = 0; i < size; ++i)
        live.tokens.push_back(static_cast<int32_t>(random_() % 16 == 0));
      live.prompt = size;
      live.target =
          1 + static_cast<int64_t>(random_() % static_cast<uint64_t>(setup_.longest - size));
      live.salt = random_() % 8 == 0 ? "salt" : "";
      live.share = random_() % 8 != 0;
      live.prompt_logits = random_() % 8 == 0;
      const int choices = random_() % 6 == 0 ? 3 : 1;
      const uint64_t first = next_id_;
      for (int choice = 0; choice < choices; ++choice) {
        Sequence s;
        s.id = next_id_++;
        s.tokens = live.tokens;
        s.prompt_tokens = live.prompt;
        s.share_prefix = live.share;
        s.salt = live.salt;
        s.prompt_logits = live.prompt_logits;
        if (choice > 0) s.after = first;
        live_[s.id] = live;
        scheduler_.add(s);
        twin_.add(s);
        ++arrived_;
      }
    }
  }

  void abort_some() {
    if (!setup_.aborts || live_.empty() || random_() % 10 != 0) return;
    auto victim = live_.begin();
    std::advance(victim, static_cast<int64_t>(random_() % live_.size()));
    end(victim->first);
    ++aborted_;
  }

  void end(uint64_t id) {
    scheduler_.finish(id);
    twin_.finish(id);
    live_.erase(id);
  }

  BatchPlan next_plan() {
    BatchPlan plan = scheduler_.plan();
    REQUIRE(same_plan(plan, twin_.plan()));
    REQUIRE((plan.tokens() > 0 || live_.empty()));
    check_plan(plan);
    return plan;
  }

  // Ended ones may be in the step that runs.
  std::optional<BatchPlan> plan_ahead(const BatchPlan& running) {
    if (!setup_.ahead || random_() % 4 == 0) return {};
    std::vector<SamplingRow> sampling;
    for (size_t row = 0; row < running.logit_tokens.size(); ++row) {
      const size_t t = static_cast<size_t>(running.logit_tokens[row]);
      const size_t index = static_cast<size_t>(running.sequence_of[t]);
      const auto live = live_.find(running.sequences[index].sequence);
      if (live == live_.end() || running.positions[t] + 1 < live->second.prompt) continue;
      const int64_t generated = running.positions[t] + 2 - live->second.prompt;
      if (generated < live->second.target) sampling.push_back({live->first, row});
    }
    std::optional<BatchPlan> plan = scheduler_.plan_ahead(sampling);
    const std::optional<BatchPlan> twin = twin_.plan_ahead(sampling);
    REQUIRE(plan.has_value() == twin.has_value());
    if (!plan.has_value()) return {};
    REQUIRE(same_plan(*plan, *twin));
    ++ahead_;
    REQUIRE(plan->decodes());
    REQUIRE(plan->tokens() == std::ssize(sampling));
    REQUIRE(plan->page_table.size() == sampling.size() * static_cast<size_t>(plan->max_pages));
    for (size_t i = 0; i < plan->sequences.size(); ++i) {
      const PlannedSequence& p = plan->sequences[i];
      const auto from = std::ranges::find(sampling, p.sequence, &SamplingRow::sequence);
      REQUIRE(from != sampling.end());
      REQUIRE(plan->sampled_from[i] == static_cast<int32_t>(from->row));
      REQUIRE(p.begin == scheduler_.find(p.sequence)->size());
      REQUIRE(plan->slots[i] == slot_of(*plan, i, p.begin));
      REQUIRE(pool_.holders(plan->slots[i] / setup_.page_tokens) == 1);
    }
    return plan;
  }

  void check_plan(const BatchPlan& plan) {
    const size_t sequences = plan.sequences.size();
    REQUIRE(plan.tokens() <= setup_.limits.max_num_batched_tokens);
    REQUIRE(static_cast<int64_t>(sequences) <= setup_.limits.max_num_seqs);
    REQUIRE(plan.token_begin.size() == sequences + 1);
    REQUIRE(plan.token_begin.back() == plan.tokens());
    REQUIRE(plan.page_table.size() == sequences * static_cast<size_t>(plan.max_pages));
    std::set<uint64_t> seen(plan.preempted.begin(), plan.preempted.end());
    std::set<int32_t> slots;
    for (size_t i = 0; i < sequences; ++i) {
      const PlannedSequence& p = plan.sequences[i];
      REQUIRE(seen.insert(p.sequence).second);
      REQUIRE(p.count > 0);
      REQUIRE(p.token_begin == plan.token_begin[i]);
      REQUIRE(p.samples == (p.begin + p.count == scheduler_.find(p.sequence)->size()));
      for (int64_t k = 0; k < p.count; ++k) {
        const size_t t = static_cast<size_t>(p.token_begin + k);
        REQUIRE(plan.positions[t] == p.begin + k);
        REQUIRE(plan.sequence_of[t] == static_cast<int32_t>(i));
        REQUIRE(plan.ids[t] == live_.at(p.sequence).tokens[static_cast<size_t>(p.begin + k)]);
        REQUIRE(plan.slots[t] == slot_of(plan, i, p.begin + k));
        REQUIRE(slots.insert(plan.slots[t]).second);
        const int32_t page = plan.slots[t] / setup_.page_tokens;
        REQUIRE(pool_.holders(page) == 1);
        REQUIRE_FALSE(pool_.published(page));
      }
    }
    REQUIRE(std::ranges::is_sorted(plan.logit_tokens));
    // Nobody starves: the oldest is in every step.
    if (!live_.empty()) REQUIRE(seen.contains(live_.begin()->first));
    if (!live_.empty()) REQUIRE(plan.sequences.size() > 0);
  }

  int32_t slot_of(const BatchPlan& plan, size_t sequence, int64_t position) const {
    const int64_t at =
        static_cast<int64_t>(sequence) * plan.max_pages + position / setup_.page_tokens;
    const int32_t page = plan.page_table[static_cast<size_t>(at)];
    return page * setup_.page_tokens + static_cast<int32_t>(position % setup_.page_tokens);
  }

  void check_upcoming() {
    int64_t total = 0;
    for (const UpcomingTokens& u : scheduler_.upcoming(30)) {
      const Sequence* s = scheduler_.find(u.sequence);
      REQUIRE(u.begin >= s->computed + s->planned);
      REQUIRE(u.begin < u.end);
      REQUIRE(u.end <= s->size());
      total += u.end - u.begin;
    }
    REQUIRE(total <= 30);
  }

  // Writes what the step's tokens stand for, then reads all of each sequence back.
  void compute(const BatchPlan& plan) {
    for (size_t i = 0; i < plan.sequences.size(); ++i) {
      const PlannedSequence& p = plan.sequences[i];
      if (!live_.contains(p.sequence)) {
        REQUIRE(p.count == 1);
        REQUIRE_FALSE(
            pool_.published(plan.slots[static_cast<size_t>(p.token_begin)] / setup_.page_tokens));
        content_[static_cast<size_t>(plan.slots[static_cast<size_t>(p.token_begin)])] = 0;
        ++in_vain_;
        continue;
      }
      const Live& live = live_.at(p.sequence);
      uint64_t prefix = mix(live.salt.size(), 1);
      for (int64_t position = 0; position < p.begin + p.count; ++position) {
        prefix = mix(prefix, static_cast<uint64_t>(live.tokens[static_cast<size_t>(position)]));
        uint64_t& content = content_[static_cast<size_t>(slot_of(plan, i, position))];
        if (position >= p.begin) content = prefix;
        REQUIRE(content == prefix);
      }
    }
    for (const int32_t token : plan.logit_tokens) {
      const size_t t = static_cast<size_t>(token);
      const PlannedSequence& p = plan.sequences[static_cast<size_t>(plan.sequence_of[t])];
      if (!live_.contains(p.sequence)) continue;
      Live& live = live_.at(p.sequence);
      const int64_t position = plan.positions[t];
      if (position + 1 < live.prompt) {
        REQUIRE(live.prompt_logits);
        ++prompt_logits_;
        REQUIRE(live.logits_seen.insert(position).second);
      } else {
        REQUIRE(position + 1 == static_cast<int64_t>(live.tokens.size()));
      }
    }
  }

  void commit(const BatchPlan& plan) {
    std::vector<int32_t> ids;
    std::vector<uint64_t> ended;
    for (const PlannedSequence& p : plan.sequences) {
      if (!p.samples || !live_.contains(p.sequence)) continue;
      Live& live = live_.at(p.sequence);
      ids.push_back(static_cast<int32_t>(random_() % 2));
      live.tokens.push_back(ids.back());
      if (live.prompt_logits) {
        REQUIRE(static_cast<int64_t>(live.logits_seen.size()) == live.prompt - 1);
      }
      const int64_t generated = static_cast<int64_t>(live.tokens.size()) - live.prompt;
      // Some end by what was sampled.
      const bool stops = setup_.aborts && random_() % 50 == 0;
      if (generated == live.target || stops) ended.push_back(p.sequence);
    }
    scheduler_.commit(plan, ids);
    twin_.commit(plan, ids);
    for (const uint64_t id : ended) {
      end(id);
      ++finished_;
    }
  }

  void check_pages() {
    std::map<int32_t, int32_t> held;
    for (const auto& [id, live] : live_) {
      const Sequence* s = scheduler_.find(id);
      REQUIRE(s->tokens == live.tokens);
      REQUIRE(s->running != s->pages.pages.empty());
      for (const int32_t page : s->pages.pages) ++held[page];
    }
    int64_t in_use = 0;
    for (int32_t page = 0; page < pool_.pages(); ++page) {
      REQUIRE(pool_.holders(page) == held[page]);
      in_use += held[page] > 0;
    }
    REQUIRE(pool_.free_pages() == pool_.pages() - in_use);
  }

  Setup setup_;
  std::mt19937_64 random_;
  memory::PagePool pool_;
  memory::PagePool twin_pool_;
  Scheduler scheduler_;
  Scheduler twin_;
  std::vector<uint64_t> content_;
  std::map<uint64_t, Live> live_;
  uint64_t next_id_ = 1;
  int64_t arrived_ = 0;
  int64_t finished_ = 0;
  int64_t aborted_ = 0;
  int64_t prompt_logits_ = 0;
  int64_t ahead_ = 0;
  int64_t in_vain_ = 0;
};

Sequence sequence(uint64_t id, int64_t size) {
  Sequence s;
  s.id = id;
  s.tokens.assign(static_cast<size_t>(size), 1);
  for (size_t i = 0; i < s.tokens.size(); ++i) s.tokens[i] = static_cast<int32_t>(id * 1000 + i);
  s.prompt_tokens = size;
  return s;
}

}  // namespace

TEST_CASE("scheduler: random load on a small pool", "[sched]") {
  int64_t in_vain = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    World world(Setup{}, seed);
    world.run();
    CHECK(world.stats().preemptions > 0);
    CHECK(world.stats().prefix_hit_tokens > 0);
    CHECK(world.shared_logits() > 0);
    CHECK(world.ahead() > 0);
    in_vain += world.computed_in_vain();
  }
  CHECK(in_vain > 0);
}

TEST_CASE("scheduler: random load, other shapes", "[sched]") {
  const Setup setups[] = {
      {.pages = 25, .page_tokens = 4, .longest = 100},
      {.pages = 400, .page_tokens = 1, .longest = 100, .aborts = false},
      {.pages = 30, .limits = {.max_num_seqs = 4, .max_num_batched_tokens = 4}, .arrivals = 60},
      {.pages = 40, .limits = {.max_num_seqs = 8, .max_num_batched_tokens = 512}},
      {.pages = 40, .limits = {.max_num_seqs = 1, .max_num_batched_tokens = 7}, .arrivals = 40},
      {.pages = 40,
       .limits = {.max_num_seqs = 8, .max_num_batched_tokens = 24, .prefix_caching = false}},
  };
  for (const Setup& setup : setups) {
    CAPTURE(setup.pages, setup.page_tokens, setup.limits.max_num_seqs);
    CAPTURE(setup.limits.max_num_batched_tokens, setup.limits.prefix_caching);
    World world(setup, 7);
    world.run();
  }
}

TEST_CASE("scheduler: a long prompt is chunked while others decode", "[sched]") {
  memory::PagePool pool(64, 4);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 8}, pool);
  scheduler.add(sequence(1, 3));
  scheduler.commit(scheduler.plan(), std::vector<int32_t>{5});
  scheduler.add(sequence(2, 20));
  std::vector<int64_t> chunks;
  for (int step = 0; step < 3; ++step) {
    const BatchPlan plan = scheduler.plan();
    REQUIRE(plan.sequences.size() == 2);
    CHECK(plan.sequences[0].sequence == 1);
    CHECK(plan.sequences[0].count == 1);
    chunks.push_back(plan.sequences[1].count);
    CHECK(plan.sequences[1].samples == (step == 2));
    scheduler.commit(plan, step == 2 ? std::vector<int32_t>{5, 6} : std::vector<int32_t>{5});
  }
  CHECK(chunks == std::vector<int64_t>{7, 7, 6});
}

TEST_CASE("scheduler: choices of one request compute the prompt once", "[sched]") {
  memory::PagePool pool(64, 4);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 64}, pool);
  for (uint64_t id = 1; id <= 3; ++id) {
    Sequence s = sequence(1, 18);
    s.id = id;
    if (id > 1) s.after = 1;
    scheduler.add(s);
  }
  BatchPlan plan = scheduler.plan();
  CHECK(plan.tokens() == 18);
  scheduler.commit(plan, std::vector<int32_t>{1});
  plan = scheduler.plan();
  // One decode and twice the two tokens past the last full page.
  CHECK(plan.tokens() == 1 + 2 + 2);
  scheduler.commit(plan, std::vector<int32_t>{1, 2, 3});
  CHECK(pool.pages() - pool.free_pages() == 4 + 3);
  CHECK(scheduler.find(2)->cached_tokens == 16);
  for (uint64_t id = 1; id <= 3; ++id) scheduler.finish(id);
  CHECK(pool.free_pages() == 64);
}

TEST_CASE("scheduler: the newest is preempted and computed again", "[sched]") {
  memory::PagePool pool(6, 4);
  Scheduler scheduler(
      {.max_num_seqs = 4, .max_num_batched_tokens = 64, .prefix_caching = false}, pool);
  scheduler.add(sequence(1, 8));
  scheduler.commit(scheduler.plan(), std::vector<int32_t>{7});
  scheduler.add(sequence(2, 8));
  scheduler.commit(scheduler.plan(), std::vector<int32_t>{7, 7});
  // 3 + 3 pages are held; the first sequence needs a fourth with its 13th token.
  for (int64_t generated = 2; generated < 4; ++generated) {
    scheduler.commit(scheduler.plan(), std::vector<int32_t>{7, 7});
  }
  const BatchPlan plan = scheduler.plan();
  REQUIRE(scheduler.find(1)->size() == 12);
  scheduler.commit(plan, std::vector<int32_t>{7, 7});
  const BatchPlan tight = scheduler.plan();
  CHECK(tight.preempted == std::vector<uint64_t>{2});
  REQUIRE(tight.sequences.size() == 1);
  CHECK(tight.sequences[0].sequence == 1);
  scheduler.commit(tight, std::vector<int32_t>{7});
  scheduler.finish(1);
  const BatchPlan again = scheduler.plan();
  REQUIRE(again.sequences.size() == 1);
  CHECK(again.sequences[0].begin == 0);
  CHECK(again.sequences[0].count == scheduler.find(2)->size());
  CHECK(again.sequences[0].samples);
  scheduler.commit(again, std::vector<int32_t>{7});
  scheduler.finish(2);
  CHECK(pool.free_pages() == 6);
}

TEST_CASE("scheduler: a step is planned ahead where nothing else could be in it", "[sched]") {
  memory::PagePool pool(4, 4);
  Scheduler scheduler(
      {.max_num_seqs = 2, .max_num_batched_tokens = 8, .prefix_caching = false}, pool);
  scheduler.add(sequence(1, 3));
  scheduler.add(sequence(2, 7));
  const BatchPlan first = scheduler.plan();
  REQUIRE(first.tokens() == 8);
  CHECK_FALSE(scheduler.plan_ahead({{{1, 0}}}).has_value());  // a prompt goes on
  scheduler.commit(first, std::vector<int32_t>{11});
  const BatchPlan second = scheduler.plan();
  REQUIRE(second.logit_tokens == std::vector<int32_t>{0, 2});
  CHECK_FALSE(scheduler.plan_ahead({}).has_value());
  const std::optional<BatchPlan> ahead = scheduler.plan_ahead({{{2, 1}, {1, 0}}});
  REQUIRE(ahead.has_value());
  CHECK(ahead->decodes());
  CHECK(ahead->sequences[0].sequence == 1);
  CHECK(ahead->sampled_from == std::vector<int32_t>{0, 1});
  CHECK(ahead->positions == std::vector<int32_t>{4, 7});
  CHECK(pool.free_pages() == 0);
  scheduler.commit(second, std::vector<int32_t>{12, 21});
  // The second ends while the step it is in is being run.
  scheduler.finish(2);
  scheduler.add(sequence(3, 2));
  CHECK_FALSE(scheduler.plan_ahead({{{1, 0}}}).has_value());  // there is room for the third
  scheduler.commit(*ahead, std::vector<int32_t>{13});
  CHECK(scheduler.find(1)->tokens.back() == 13);
  CHECK(scheduler.find(1)->computed == 5);
  const BatchPlan third = scheduler.plan();
  CHECK(third.sequences.size() == 2);
  scheduler.add(sequence(4, 2));  // there is no room for it
  CHECK(scheduler.plan_ahead({{{1, 0}, {3, 1}}}).has_value());
}

TEST_CASE("scheduler: a step that needs more pages than there are is not ahead", "[sched]") {
  memory::PagePool pool(2, 4);
  Scheduler scheduler(
      {.max_num_seqs = 2, .max_num_batched_tokens = 8, .prefix_caching = false}, pool);
  scheduler.add(sequence(1, 4));
  const BatchPlan plan = scheduler.plan();
  scheduler.add(sequence(2, 1));
  scheduler.commit(plan, std::vector<int32_t>{5});
  const BatchPlan both = scheduler.plan();
  REQUIRE(both.sequences.size() == 1);                        // it takes the last page
  CHECK_FALSE(scheduler.plan_ahead({{{1, 0}}}).has_value());  // the second waits for one
}

TEST_CASE("scheduler: a step that is undone for a sequence leaves it as it was", "[sched]") {
  memory::PagePool pool(64, 4);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 8}, pool);
  Sequence lost = sequence(1, 14);
  lost.prompt_logits = true;
  scheduler.add(lost);
  scheduler.add(sequence(2, 3));
  const BatchPlan first = scheduler.plan();
  REQUIRE(first.sequences.size() == 1);
  scheduler.commit(first, {}, {1});
  CHECK(scheduler.find(1)->computed == 0);
  CHECK(scheduler.find(1)->prompt_logits_done == 0);
  const BatchPlan again = scheduler.plan();
  CHECK(again.ids == first.ids);
  CHECK(again.slots == first.slots);
  CHECK(again.logit_tokens == first.logit_tokens);
  scheduler.commit(again, {});
  // The end of the prompt, beside another that samples.
  const BatchPlan end = scheduler.plan();
  REQUIRE(end.sequences.size() == 2);
  CHECK(end.sequences[0].samples);
  scheduler.commit(end, {}, {1});
  CHECK(scheduler.find(1)->size() == 14);
  CHECK(scheduler.find(1)->computed == 8);
  // Nothing of what was undone is found by others.
  Sequence other = sequence(1, 14);
  other.id = 3;
  CHECK(pool.match_prefix(other.tokens, std::string(1, '\0')) == 8);
  const BatchPlan last = scheduler.plan();
  REQUIRE(last.sequences.size() == 2);
  scheduler.commit(last, std::vector<int32_t>{7, 8});
  CHECK(scheduler.find(1)->size() == 15);
  CHECK(pool.match_prefix(other.tokens, std::string(1, '\0')) == 12);
  scheduler.finish(1);
  scheduler.finish(2);
  CHECK(pool.free_pages() == 64);
}

TEST_CASE("scheduler: prefixes of other tables are not found", "[sched]") {
  memory::PagePool pool(64, 4);
  Scheduler scheduler({.max_num_seqs = 4, .max_num_batched_tokens = 64}, pool);
  uint64_t next = 1;
  const auto run = [&] {
    Sequence s = sequence(1, 18);
    s.id = next++;
    scheduler.add(s);
    scheduler.commit(scheduler.plan(), std::vector<int32_t>{1});
    const int64_t cached = scheduler.find(s.id)->cached_tokens;
    scheduler.finish(s.id);
    return cached;
  };
  scheduler.use_tables("a");
  CHECK(run() == 0);
  CHECK(run() == 16);
  scheduler.use_tables("b");
  CHECK(run() == 0);
  scheduler.use_tables("a");
  CHECK(run() == 16);
  // Half of it computed with one version, half with another: nothing is kept of the second half,
  // under neither name.
  Sequence mixed = sequence(50, 40);
  scheduler.add(mixed);
  scheduler.commit(scheduler.plan(), std::vector<int32_t>{1});
  scheduler.use_tables("c");
  for (int i = 0; i < 8; ++i) scheduler.commit(scheduler.plan(), std::vector<int32_t>{1});
  const std::vector<int32_t> tokens = scheduler.find(50)->tokens;
  CHECK(pool.match_prefix(tokens, std::string("a").append(1, '\0')) == 40);
  CHECK(pool.match_prefix(tokens, std::string("c").append(1, '\0')) == 0);
  scheduler.finish(50);
}

}  // namespace engram::engine

#include "engine/run/loop.h"

#include <algorithm>
#include <cmath>

namespace engram::engine {
namespace {

using memory::Code;
using memory::Status;

constexpr size_t kRecentSteps = 4096;
// A loop with nothing to do still shows that it lives.
constexpr std::chrono::milliseconds kHeartbeat{500};

// Spreads the seeds of requests that bring none.
uint64_t scramble(uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

FinishReason reason_of(Code code) {
  if (code == Code::kCancelled) return FinishReason::kCancelled;
  if (code == Code::kDeadlineExceeded) return FinishReason::kTimeLimit;
  return FinishReason::kError;
}

SchedulerLimits scheduler_limits(const EngineOptions& options) {
  return {
      .max_num_seqs = options.max_num_seqs,
      .max_num_batched_tokens = options.max_num_batched_tokens,
      .prefix_caching = options.enable_prefix_caching};
}

}  // namespace

EngineLoop::EngineLoop(std::unique_ptr<EngineParts> parts)
    : parts_(std::move(parts)),
      request_limits_{
          .vocab_size = parts_->info.config.vocab_size,
          .max_model_len = parts_->info.max_model_len,
          .kv_pages = parts_->info.kv_pages,
          .page_tokens = parts_->info.page_tokens},
      max_queued_(
          parts_->options.max_queued_requests > 0 ? parts_->options.max_queued_requests
                                                  : 4 * parts_->options.max_num_seqs),
      tables_(parts_->tables),
      scheduler_(scheduler_limits(parts_->options), *parts_->pool),
      fetch_mode_(fetch_mode(parts_->options.ngram_fetch).value()) {
  start_verifier();
  thread_ = std::thread([this] { loop(); });
}

EngineLoop::~EngineLoop() {
  {
    const std::lock_guard<std::mutex> lock(mu_);
    stopping_ = true;
    work_.notify_one();
  }
  thread_.join();
  // Gathers still know the verifier, which knows this object, and the runner's results.
  parts_->prefetch->use_verifier(nullptr);
}

Status EngineLoop::submit(Request request) {
  ENGRAM_RETURN_IF_ERROR(validate_request(request, request_limits_));
  const Clock::time_point now = Clock::now();
  const std::lock_guard<std::mutex> lock(mu_);
  ENGRAM_RETURN_IF_ERROR(failure_);
  if (draining_ || stopping_) return memory::unavailable("the server is shutting down");
  if (live_ids_.contains(request.id)) {
    return {Code::kAlreadyExists, "request_id " + request.id + " is in use"};
  }
  if (queued_ >= max_queued_) {
    return memory::resource_exhausted(
        "the queue is full: " + std::to_string(queued_) + " requests wait, at most " +
        std::to_string(max_queued_) + " may (--max-queued-requests)");
  }
  live_ids_.insert(request.id);
  ++queued_;
  ++open_requests_;
  arrivals_.push_back({std::move(request), now});
  work_.notify_one();
  return {};
}

void EngineLoop::abort(const std::string& id, Code code) {
  const std::lock_guard<std::mutex> lock(mu_);
  if (!live_ids_.contains(id)) return;
  aborts_.emplace_back(id, code);
  work_.notify_one();
}

EngineStats EngineLoop::stats() {
  const std::lock_guard<std::mutex> lock(mu_);
  EngineStats stats = published_;
  published_.recent_step_seconds.clear();
  published_.recent_exposed_wait_seconds.clear();
  return stats;
}

Status EngineLoop::failure() {
  const std::lock_guard<std::mutex> lock(mu_);
  return failure_;
}

std::vector<memory::TableReport> EngineLoop::tables() {
  std::shared_ptr<memory::TableSet> tables;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    tables = tables_;
  }
  std::vector<memory::TableReport> reports = tables->reports();
  for (memory::TableReport& report : reports) {
    const auto found = parts_->info.table_gathers.find(report.layer);
    if (found != parts_->info.table_gathers.end()) report.gather = found->second;
  }
  return reports;
}

bool EngineLoop::drain(std::chrono::milliseconds limit) {
  std::unique_lock<std::mutex> lock(mu_);
  draining_ = true;
  return idle_.wait_for(lock, limit, [this] { return open_requests_ == 0; });
}

void EngineLoop::loop() {
  use_tables(parts_->tables->version());
  std::vector<std::pair<std::string, Code>> aborts;
  while (wait_for_work(&aborts)) {
    end_if_failed();
    take_bad_rows();
    if (!running_.has_value()) {
      take_swap();
      take_mode();
    }
    for (const auto& [id, code] : aborts) {
      const auto found = by_id_.find(id);
      if (found == by_id_.end()) continue;
      end_request(
          *live_.at(found->second), Status(code, "the request was cancelled"), reason_of(code));
    }
    expire();
    if (!scheduler_.empty() || running_.has_value()) step();
    publish_stats();
  }
  if (running_.has_value()) step();
  while (!live_.empty()) {
    end_request(
        *live_.begin()->second, memory::unavailable("the server is shutting down"),
        FinishReason::kError);
  }
  take_swap();
  take_mode();
  ENGRAM_CHECK(parts_->pool->free_pages() == parts_->pool->pages());
  ENGRAM_CHECK(parts_->prefetch->free_slots() == parts_->prefetch->slots());
}

// False: stop. New requests have been begun, `aborts` are for the caller.
bool EngineLoop::wait_for_work(std::vector<std::pair<std::string, Code>>* aborts) {
  std::vector<Arrival> arrivals;
  bool stop = false;
  {
    std::unique_lock<std::mutex> lock(mu_);
    const auto something = [this] {
      return stopping_ || swap_ != nullptr || mode_ != nullptr || !bad_rows_.empty() ||
             !arrivals_.empty() || !aborts_.empty();
    };
    if (live_.empty() && !running_.has_value()) work_.wait_for(lock, kHeartbeat, something);
    stop = stopping_;
    arrivals.swap(arrivals_);
    aborts->swap(aborts_);
    aborts_.clear();
  }
  take_arrivals(std::move(arrivals));
  return !stop;
}

void EngineLoop::take_arrivals(std::vector<Arrival> arrivals) {
  for (Arrival& arrival : arrivals) begin(std::move(arrival));
}

void EngineLoop::begin(Arrival arrival) {
  const uint64_t key = next_key_++;
  std::unique_ptr<LiveRequest>& live = live_[key] = std::make_unique<LiveRequest>();
  live->key = key;
  live->request = std::move(arrival.request);
  live->arrival = arrival.at;
  live->gate_sums.resize(parts_->weights->engram.size());
  const Request& request = live->request;
  by_id_[request.id] = key;
  const int64_t max_tokens = generation_limit(request, request_limits_.max_model_len);
  const uint64_t seed =
      request.sampling.seed.value_or(scramble(scramble(parts_->options.seed) + key));
  live->usage.prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  live->choices_left = request.sampling.n;
  const uint64_t first = next_sequence_;
  for (int i = 0; i < request.sampling.n; ++i) {
    Sequence sequence;
    sequence.id = next_sequence_++;
    sequence.tokens = request.prompt_ids;
    sequence.prompt_tokens = live->usage.prompt_tokens;
    sequence.share_prefix = !request.bypass_prefix_cache;
    sequence.salt = request.cache_salt;
    sequence.prompt_logits = i == 0 && request.sampling.prompt_logprobs >= 0;
    if (i > 0) sequence.after = first;
    Choice& added = live->choices.emplace_back(
        i, sequence.id,
        ChoiceOutput(*parts_->tokenizer, request.sampling, parts_->eos, max_tokens));
    added.seed = seed + static_cast<uint64_t>(i);
    by_sequence_[sequence.id] = {live.get(), &added};
    parts_->prefetch->add(sequence.id, key);
    scheduler_.add(std::move(sequence));
  }
  totals_.prompt_tokens += live->usage.prompt_tokens;
}

void EngineLoop::expire() {
  const Clock::time_point now = Clock::now();
  for (auto next = live_.begin(); next != live_.end();) {
    LiveRequest& live = *(next++)->second;
    if (!live.request.deadline.has_value() || *live.request.deadline > now) continue;
    end_request(
        live, Status(Code::kDeadlineExceeded, "the deadline of the request passed"),
        FinishReason::kTimeLimit);
  }
}

// A device that failed serves nobody any more.
void EngineLoop::end_if_failed() {
  const Status failure = parts_->backend.device->failure();
  if (failure.ok()) return;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    failure_ = failure;
  }
  while (!live_.empty()) end_request(*live_.begin()->second, failure, FinishReason::kError);
}

void EngineLoop::step() {
  if (!running_.has_value()) {
    const Clock::time_point begin = Clock::now();
    running_ = start(scheduler_.plan(), begin);
    // The device is busy: what can be done meanwhile is done now.
    start_requests(running_->plan);
  }
  std::vector<Arrival> arrivals;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    arrivals.swap(arrivals_);
  }
  take_arrivals(std::move(arrivals));
  look_ahead();
  std::optional<Step> ahead = start_ahead();
  if (!ahead.has_value()) fetch_when_sampled(*running_);
  Step done = std::exchange(running_, std::move(ahead)).value();
  parts_->runner->finish();
  const StepFetch fetched = parts_->prefetch->commit(done.plan);
  if (!parts_->backend.device->failure().ok()) return undo(done.plan);
  // Before the results are delivered: who gets the last of them may ask for statistics at once.
  const Clock::time_point end = Clock::now();
  StepTimes& times = new_steps_.emplace_back();
  times.seconds = seconds_between(std::max(done.begin, last_step_end_), end);
  if (parts_->prefetch->times_waits()) {
    times.waited = static_cast<double>(fetched.exposed_wait_ns) * 1e-9;
  }
  count_step(done.plan, times.seconds);
  last_step_end_ = end;
  commit(done, fetched.missing);
}

EngineLoop::Step EngineLoop::start(BatchPlan plan, Clock::time_point begin) {
  ENGRAM_CHECK(plan.tokens() > 0);
  Step step{.plan = std::move(plan), .rows = {}, .sampled = {}, .begin = begin};
  for (const uint64_t id : step.plan.preempted) {
    parts_->prefetch->drop(id);
    ++owner(id).usage.preemptions;
  }
  const std::span<const int32_t> row_slots =
      parts_->prefetch->prepare(step.plan, tokens_of(step.plan));
  make_sample_rows(step);
  step.coming = parts_->runner->start(
      step.plan, row_slots, parts_->prefetch->windows(), parts_->prefetch->tickets(), step.rows);
  return step;
}

// The step after the one that runs, if it is known who will be in it but for those who end by what
// they sample: of those the results are dropped.
std::optional<EngineLoop::Step> EngineLoop::start_ahead() {
  if (!parts_->options.async_scheduling || !parts_->runner->may_run_ahead()) return {};
  const Clock::time_point begin = Clock::now();
  std::vector<SamplingRow> go_on;
  for (const SamplingRow& s : running_->sampled) {
    if (is_live(s.sequence) && choice(s.sequence).output.may_continue()) go_on.push_back(s);
  }
  if (!parts_->prefetch->may_run_ahead(std::ssize(go_on))) return {};
  {
    // What is done between steps only.
    const std::lock_guard<std::mutex> lock(mu_);
    if (stopping_ || swap_ != nullptr || mode_ != nullptr || !bad_rows_.empty()) return {};
  }
  std::optional<BatchPlan> plan = scheduler_.plan_ahead(go_on);
  if (!plan.has_value()) return {};
  ++totals_.ahead_steps;
  return start(std::move(*plan), begin);
}

// For no sequence the step happened.
void EngineLoop::undo(const BatchPlan& plan) {
  std::set<uint64_t> undone;
  for (const PlannedSequence& p : plan.sequences) undone.insert(p.sequence);
  scheduler_.commit(plan, {}, undone);
  parts_->prefetch->fetch_sampled({});
}

void EngineLoop::count_step(const BatchPlan& plan, double seconds) {
  int64_t decode = 0;
  for (const PlannedSequence& p : plan.sequences) {
    const Sequence* sequence = scheduler_.find(p.sequence);
    // Only a decode step can outlive a sequence.
    if (sequence == nullptr || p.begin >= sequence->prompt_tokens) decode += p.count;
  }
  const bool prefills = decode < plan.tokens();
  totals_.decode_tokens += decode;
  totals_.prefill_tokens += plan.tokens() - decode;
  ++(prefills ? totals_.prefill_steps : totals_.decode_steps);
  const int64_t ns = std::llround(1e9 * seconds);
  (prefills ? totals_.prefill_step_ns : totals_.decode_step_ns) += ns;
}

std::vector<std::span<const int32_t>> EngineLoop::tokens_of(const BatchPlan& plan) const {
  std::vector<std::span<const int32_t>> tokens;
  for (const PlannedSequence& p : plan.sequences) {
    tokens.emplace_back(scheduler_.find(p.sequence)->tokens);
  }
  return tokens;
}

void EngineLoop::make_sample_rows(Step& step) {
  const BatchPlan& plan = step.plan;
  for (const int32_t token : plan.logit_tokens) {
    const size_t t = static_cast<size_t>(token);
    const size_t index = static_cast<size_t>(plan.sequence_of[t]);
    const Sequence& sequence = *scheduler_.find(plan.sequences[index].sequence);
    const size_t next = static_cast<size_t>(plan.positions[t]) + 1;
    if (next < static_cast<size_t>(sequence.prompt_tokens)) {
      SampleRow row;
      row.sample = false;
      row.target = sequence.tokens[next];
      row.logprobs = owner(sequence.id).request.sampling.prompt_logprobs;
      step.rows.push_back(row);
    } else {
      step.sampled.push_back({sequence.id, step.rows.size()});
      step.rows.push_back(sample_row(sequence, next));
      step.rows.back().newest_on_device = plan.ahead();
    }
  }
}

// Of the id at that position.
SampleRow EngineLoop::sample_row(const Sequence& sequence, size_t position) {
  const Choice& of = choice(sequence.id);
  const SamplingParams& s = owner(sequence.id).request.sampling;
  const std::span<const int32_t> tokens(sequence.tokens);
  const size_t prompt = static_cast<size_t>(sequence.prompt_tokens);
  SampleRow row;
  row.temperature = s.temperature;
  row.top_p = s.top_p;
  row.min_p = s.min_p;
  row.top_k = std::max(s.top_k, 0);
  row.repetition_penalty = s.repetition_penalty;
  row.presence_penalty = s.presence_penalty;
  row.frequency_penalty = s.frequency_penalty;
  row.seed = of.seed;
  row.draw_index = position - prompt;
  row.logprobs = s.logprobs;
  row.logit_bias = s.logit_bias;
  row.banned = of.output.banned(static_cast<int64_t>(row.draw_index));
  row.prompt_ids = tokens.first(prompt);
  row.generated_ids = tokens.subspan(prompt);
  return row;
}

void EngineLoop::start_requests(const BatchPlan& plan) {
  int64_t started = 0;
  const Clock::time_point now = Clock::now();
  for (const PlannedSequence& p : plan.sequences) {
    LiveRequest& live = owner(p.sequence);
    std::vector<std::string>& versions = live.usage.table_versions;
    if (!tables_version_.empty() && (versions.empty() || versions.back() != tables_version_)) {
      versions.push_back(tables_version_);
    }
    if (live.started) continue;
    live.started = true;
    ++started;
    live.usage.queue_seconds = seconds_between(live.arrival, now);
    live.usage.cached_tokens = scheduler_.find(p.sequence)->cached_tokens;
    totals_.cached_tokens += live.usage.cached_tokens;
  }
  if (started == 0) return;
  const std::lock_guard<std::mutex> lock(mu_);
  queued_ -= started;
}

// Rows of prompts that will run next are fetched while this step computes.
void EngineLoop::look_ahead() {
  std::vector<FetchRange> expected;
  for (const UpcomingTokens& u : scheduler_.upcoming(parts_->options.max_num_batched_tokens)) {
    expected.push_back({u.sequence, scheduler_.find(u.sequence)->tokens, u.begin, u.end});
  }
  parts_->prefetch->look_ahead(expected);
}

void EngineLoop::fetch_when_sampled(const Step& step) {
  std::vector<SamplingSequence> sequences;
  for (const SamplingRow& s : step.sampled) {
    if (!is_live(s.sequence) || !choice(s.sequence).output.may_continue()) continue;
    sequences.push_back({s.sequence, scheduler_.find(s.sequence)->tokens, &step.coming[s.row].id});
  }
  parts_->prefetch->fetch_when_sampled(sequences);
}

void EngineLoop::fetch_sampled(std::span<const SamplingRow> sampled) {
  std::vector<FetchRange> ranges;
  for (const SamplingRow& s : sampled) {
    const Sequence& sequence = *scheduler_.find(s.sequence);
    if (!owner(sequence.id).error.ok()) continue;
    if (!choice(sequence.id).output.continues_after(sequence.tokens.back())) continue;
    ranges.push_back({sequence.id, sequence.tokens, sequence.size() - 1, sequence.size()});
  }
  parts_->prefetch->fetch_sampled(ranges);
}

void EngineLoop::publish_stats() {
  EngineStats stats = totals_;
  const SchedulerStats scheduled = scheduler_.stats();
  stats.running = scheduled.running;
  stats.waiting = scheduled.waiting;
  stats.steps = scheduled.steps;
  stats.preemptions = scheduled.preemptions;
  stats.prefix_queries_tokens = scheduled.prefix_queries_tokens;
  stats.graph_steps = parts_->runner->replays();
  stats.kv_pages_total = parts_->pool->pages();
  stats.kv_pages_free = parts_->pool->free_pages();
  stats.heartbeat_ns = std::chrono::nanoseconds(Clock::now().time_since_epoch()).count();
  if (verifier_ != nullptr) {
    const VerifierStats verified = verifier_->stats();
    stats.rows_verified = verified.checked;
    stats.rows_wrong = verified.wrong;
    stats.rows_unverified = verified.unchecked;
  }
  const PrefetchStats fetched = parts_->prefetch->stats();
  stats.hash_ns = fetched.hash_ns;
  stats.self_fed_steps = fetched.self_fed_steps;
  for (const PrefetchStats::Layer& layer : fetched.layers) {
    stats.layers.push_back(
        {.layer = layer.layer,
         .rows = layer.rows,
         .unique_rows = layer.unique_rows,
         .bytes = layer.bytes,
         .gather_ns = layer.gather_ns,
         .exposed_wait_ns = layer.exposed_wait_ns,
         .failed_tokens = layer.failed_tokens});
  }
  for (const OpStats& op : parts_->ops->stats()) {
    stats.ops.push_back({op.name, op.calls, op.bytes, op.flops});
  }
  const std::lock_guard<std::mutex> lock(mu_);
  stats.recent_step_seconds.swap(published_.recent_step_seconds);
  stats.recent_exposed_wait_seconds.swap(published_.recent_exposed_wait_seconds);
  for (const StepTimes& times : new_steps_) {
    if (stats.recent_step_seconds.size() == kRecentSteps) break;
    stats.recent_step_seconds.push_back(times.seconds);
    if (times.waited) stats.recent_exposed_wait_seconds.push_back(*times.waited);
  }
  new_steps_.clear();
  published_ = std::move(stats);
}

}  // namespace engram::engine

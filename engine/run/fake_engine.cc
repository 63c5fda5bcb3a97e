// The simulator: requests wait, are prefilled at a given rate, and get one token per step, as in
// the real engine, but no model runs. Tokens are a hash of prompt, seed, choice and position, so
// that equal requests get equal answers whatever runs beside them.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <unordered_map>
#include <utility>

#include "engine/run/engine.h"
#include "engine/run/output.h"
#include "engine/run/validate.h"

namespace engram::engine {
namespace {

using memory::Code;
using memory::Result;
using memory::Status;
using std::chrono::duration;
using std::chrono::nanoseconds;

constexpr int kPageTokens = 16;
constexpr int64_t kByteVocabulary = 256;
constexpr int kMostDraws = 64;  // when nearly every id is banned, one of them comes out

uint64_t mix(uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return duration<double>(to - from).count();
}

struct Choice {
  uint64_t state = 0;
  bool live = true;
  bool begun = false;
  ChoiceOutput output;
};

// One request in the simulator. Engine thread, except `abort`, which is guarded by the engine's
// mu_.
struct Job {
  Request request;
  std::vector<Choice> choices;
  int64_t limit = 0;
  int64_t pages = 0;
  int live_choices = 0;
  Code abort = Code::kOk;
  Usage usage;
  Clock::time_point arrival;
  Clock::time_point prefilled;  // when the first token may come
};

Clock::duration ticks(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(duration<double>(seconds));
}

class FakeEngine : public Engine {
 public:
  FakeEngine(const FakeEngineOptions& options, std::unique_ptr<Tokenizer> tokenizer)
      : options_(options), tokenizer_(std::move(tokenizer)) {
    info_.model_path = "simulator";
    info_.architecture = "Simulator";
    info_.device = "none";
    info_.config.vocab_size = tokenizer_->size();
    info_.config.max_position_embeddings = options.max_model_len;
    info_.max_model_len = options.max_model_len;
    info_.max_num_seqs = options.max_num_seqs;
    info_.kv_pages = options.kv_pages;
    info_.page_tokens = kPageTokens;
    stats_.kv_pages_total = options.kv_pages;
    stats_.kv_pages_free = options.kv_pages;
    stats_.heartbeat_ns = Clock::now().time_since_epoch().count();
    thread_ = std::thread([this] { loop(); });
  }

  ~FakeEngine() override {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  const EngineInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }

  Status submit(Request request) override {
    const RequestLimits limits = {
        info_.config.vocab_size, info_.max_model_len, info_.kv_pages, kPageTokens};
    ENGRAM_RETURN_IF_ERROR(validate_request(request, limits));
    const std::lock_guard lock(mu_);
    ENGRAM_RETURN_IF_ERROR(failure_);
    if (draining_ || stopping_) return memory::unavailable("the engine is draining");
    if (live_.contains(request.id)) {
      return {Code::kAlreadyExists, "request_id " + request.id + " is running"};
    }
    const int64_t queue =
        options_.max_queued_requests > 0 ? options_.max_queued_requests : 4 * options_.max_num_seqs;
    if (static_cast<int64_t>(waiting_.size()) >= queue) {
      return memory::resource_exhausted(
          "the queue is full: " + std::to_string(waiting_.size()) + " requests wait");
    }
    std::unique_ptr<Job> job = make_job(std::move(request));
    live_.emplace(job->request.id, job.get());
    if (!first_request_) first_request_ = job->arrival;
    ++unfinished_;
    waiting_.push_back(std::move(job));
    stats_.waiting = static_cast<int64_t>(waiting_.size());
    wake_.notify_one();
    return {};
  }

  void abort(const std::string& id, Code code) override {
    const std::lock_guard lock(mu_);
    const auto found = live_.find(id);
    if (found == live_.end() || found->second->abort != Code::kOk) return;
    found->second->abort = code;
    wake_.notify_one();
  }

  std::vector<memory::TableReport> tables() override { return {}; }
  memory::Result<TableSwap> swap_tables(const memory::TableSetOptions&) override {
    return no_tables();
  }
  memory::Result<size_t> open_idle_tables(const memory::TableSetOptions&) override {
    return no_tables();
  }
  memory::Result<TableSwap> exchange_tables(size_t) override { return no_tables(); }
  memory::Result<TableTouch> touch_tables() override { return no_tables(); }
  Status set_ngram_fetch(const std::string&) override { return no_tables(); }
  EngineStats stats() override {
    const std::lock_guard lock(mu_);
    EngineStats copy = stats_;
    stats_.recent_step_seconds.clear();
    stats_.recent_exposed_wait_seconds.clear();
    return copy;
  }

  Status failure() override {
    const std::lock_guard lock(mu_);
    return failure_;
  }

  bool drain(std::chrono::milliseconds limit) override {
    std::unique_lock lock(mu_);
    draining_ = true;
    return idle_.wait_for(lock, limit, [this] { return unfinished_ == 0; });
  }

 private:
  static Status no_tables() {
    return memory::failed_precondition("the simulator has no n-gram tables");
  }

  std::unique_ptr<Job> make_job(Request request) const {
    auto job = std::make_unique<Job>();
    job->arrival = Clock::now();
    job->limit = generation_limit(request, info_.max_model_len);
    const int64_t prompt = static_cast<int64_t>(request.prompt_ids.size());
    const int n = request.sampling.n;
    job->pages = n * ((prompt + job->limit + kPageTokens - 1) / kPageTokens);
    job->pages = std::min(job->pages, info_.kv_pages);
    job->live_choices = n;
    job->usage.prompt_tokens = prompt;
    uint64_t state = mix(request.sampling.seed.value_or(0) + 1);
    for (const int32_t id : request.prompt_ids) state = mix(state ^ static_cast<uint64_t>(id));
    job->request = std::move(request);
    for (int i = 0; i < n; ++i) {
      job->choices.push_back(
          {mix(state + static_cast<uint64_t>(i)), true, false,
           ChoiceOutput(*tokenizer_, job->request.sampling, {}, job->limit)});
    }
    return job;
  }

  void loop() {
    Clock::time_point next = Clock::now();
    while (true) {
      {
        std::unique_lock lock(mu_);
        const auto work = [this] { return stopping_ || !waiting_.empty() || !running_.empty(); };
        while (!wake_.wait_for(lock, std::chrono::milliseconds(500), work)) beat();
        stand_still(lock);
        if (stopping_) break;
        beat();
        take_aborts();
        admit();
        fail_in_time();
      }
      finish_aborted();
      if (!failure().ok()) {
        end_all(FinishReason::kError, failure());
        continue;
      }
      if (options_.step_ms > 0) {
        next = std::max(next + ticks(options_.step_ms * 1e-3), Clock::now());
        std::this_thread::sleep_until(next);
        std::unique_lock lock(mu_);
        stand_still(lock);
      }
      step();
    }
    end_all(FinishReason::kCancelled, memory::unavailable("the server is shutting down"));
  }

  // Also those that wait, which have no pages.
  void end_all(FinishReason reason, const Status& status) {
    {
      const std::lock_guard lock(mu_);
      for (std::unique_ptr<Job>& job : waiting_) {
        job->pages = 0;
        running_.push_back(std::move(job));
      }
      waiting_.clear();
      stats_.waiting = 0;
    }
    while (!running_.empty()) end_early(0, reason, status);
  }

  void fail_in_time() {
    if (options_.fail_at_seconds <= 0 || !first_request_) return;
    if (Clock::now() < *first_request_ + ticks(options_.fail_at_seconds)) return;
    failure_ = memory::unavailable("the simulated device failed (--fake-fail-at-s)");
  }

  // Returns at once, but for the time of the freeze.
  void stand_still(std::unique_lock<std::mutex>& lock) {
    if (options_.freeze_seconds <= 0 || !first_request_) return;
    const Clock::time_point begin = *first_request_ + ticks(options_.freeze_at_seconds);
    if (Clock::now() < begin) return;
    const Clock::time_point end = begin + ticks(options_.freeze_seconds);
    wake_.wait_until(lock, end, [this] { return stopping_; });
  }

  void beat() { stats_.heartbeat_ns = Clock::now().time_since_epoch().count(); }

  // Aborted and expired jobs leave the queue at once; running ones end in finish_aborted().
  void take_aborts() {
    const Clock::time_point now = Clock::now();
    for (const auto& [id, job] : live_) {
      const std::optional<Clock::time_point>& deadline = job->request.deadline;
      if (job->abort == Code::kOk && deadline && *deadline <= now) {
        job->abort = Code::kDeadlineExceeded;
      }
    }
    const auto aborted = [](const std::unique_ptr<Job>& job) { return job->abort != Code::kOk; };
    for (std::unique_ptr<Job>& job : waiting_) {
      if (!aborted(job)) continue;
      job->pages = 0;
      running_.push_back(std::move(job));
    }
    std::erase(waiting_, nullptr);
    aborted_.clear();
    for (const std::unique_ptr<Job>& job : running_) {
      if (aborted(job)) aborted_.emplace_back(job.get(), job->abort);
    }
    stats_.waiting = static_cast<int64_t>(waiting_.size());
  }

  void admit() {
    const Clock::time_point now = Clock::now();
    int64_t running = 0;
    for (const std::unique_ptr<Job>& job : running_) running += job->live_choices;
    while (!waiting_.empty()) {
      Job& job = *waiting_.front();
      if (job.pages > stats_.kv_pages_free) break;
      if (running > 0 && running + job.live_choices > options_.max_num_seqs) break;
      running += job.live_choices;
      stats_.kv_pages_free -= job.pages;
      job.usage.queue_seconds = seconds_between(job.arrival, now);
      const double rate = options_.prefill_tokens_per_second;
      const double prompt = static_cast<double>(job.usage.prompt_tokens);
      prefill_until_ = std::max(prefill_until_, now) + ticks(rate > 0 ? prompt / rate : 0);
      job.prefilled = prefill_until_;
      stats_.prompt_tokens += job.usage.prompt_tokens;
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    stats_.running = static_cast<int64_t>(running_.size());
    stats_.waiting = static_cast<int64_t>(waiting_.size());
  }

  void finish_aborted() {
    for (const auto& [job, code] : aborted_) {
      for (size_t i = 0; i < running_.size(); ++i) {
        if (running_[i].get() != job) continue;
        const bool late = code == Code::kDeadlineExceeded;
        end_early(
            i, late ? FinishReason::kTimeLimit : FinishReason::kCancelled,
            {code, late ? "the deadline passed" : "the request was cancelled"});
        break;
      }
    }
    aborted_.clear();
  }

  void step() {
    const Clock::time_point begin = Clock::now();
    int64_t tokens = 0;
    for (size_t i = 0; i < running_.size();) {
      Job& job = *running_[i];
      if (job.prefilled > begin) {
        ++i;
        continue;
      }
      for (size_t c = 0; c < job.choices.size(); ++c) {
        if (!job.choices[c].live) continue;
        advance(job, static_cast<int>(c), begin);
        ++tokens;
      }
      if (job.live_choices > 0) {
        ++i;
      } else {
        end(i, {});
      }
    }
    if (tokens == 0 && options_.step_ms <= 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));  // all are in prefill
    }
    const std::lock_guard lock(mu_);
    ++stats_.steps;
    stats_.generation_tokens += tokens;
    if (tokens > 0 && stats_.recent_step_seconds.size() < 4096) {
      stats_.recent_step_seconds.push_back(
          std::max(options_.step_ms * 1e-3, seconds_between(begin, Clock::now())));
      stats_.recent_exposed_wait_seconds.push_back(0);
    }
  }

  // Printable ASCII for bytes; any id for a real vocabulary.
  int32_t draw(Choice& choice) const {
    const uint64_t vocabulary = static_cast<uint64_t>(info_.config.vocab_size);
    const std::span<const int32_t> banned = choice.output.banned(choice.output.generated());
    for (int tries = 0;; ++tries) {
      choice.state = mix(choice.state + 0x9e3779b97f4a7c15u);
      const int32_t id = vocabulary == kByteVocabulary
                             ? static_cast<int32_t>(32 + choice.state % 95)
                             : static_cast<int32_t>(choice.state % vocabulary);
      const bool allowed = std::find(banned.begin(), banned.end(), id) == banned.end();
      if (allowed || tries == kMostDraws) return id;
    }
  }

  void advance(Job& job, int index, Clock::time_point now) {
    Choice& choice = job.choices[static_cast<size_t>(index)];
    const SamplingParams& sampling = job.request.sampling;
    Delta delta;
    delta.choice = index;
    if (!choice.begun) {
      choice.begun = true;
      first_delta(job, choice, delta);
      if (job.usage.first_token_seconds == 0) {
        job.usage.first_token_seconds = seconds_between(job.arrival, now);
      }
    }
    const int32_t id = draw(choice);
    ++job.usage.completion_tokens;
    std::optional<Finish> finish;
    delta.text += choice.output.push(id, &finish);
    delta.token_ids.push_back(id);
    if (sampling.logprobs >= 0) delta.logprobs.push_back(flat_logprobs(id, sampling.logprobs));
    job.request.sink->on_delta(std::move(delta));
    if (finish) finish_choice(job, index, std::move(*finish));
  }

  void first_delta(const Job& job, Choice& choice, Delta& delta) const {
    const SamplingParams& sampling = job.request.sampling;
    const std::vector<int32_t>& prompt = job.request.prompt_ids;
    if (sampling.echo) {
      delta.text = choice.output.echo(prompt);
      delta.token_ids = prompt;
      if (sampling.logprobs >= 0) {
        for (const int32_t id : prompt) {
          delta.logprobs.push_back(flat_logprobs(id, sampling.logprobs));
        }
      }
    }
    if (sampling.prompt_logprobs < 0) return;
    for (size_t i = 1; i < prompt.size(); ++i) {
      delta.prompt_logprobs.push_back(flat_logprobs(prompt[i], sampling.prompt_logprobs));
    }
  }

  // Nothing is known of the distribution, so the message sizes are what matters here.
  static PositionLogprobs flat_logprobs(int32_t id, int32_t top) {
    PositionLogprobs position = {id, -1.f, 1, {}};
    for (int32_t k = 0; k < top; ++k) position.top.push_back({k, -1.f - static_cast<float>(k)});
    return position;
  }

  void finish_choice(Job& job, int index, Finish finish) {
    job.choices[static_cast<size_t>(index)].live = false;
    --job.live_choices;
    {
      const std::lock_guard lock(mu_);
      ++stats_.finished[finish.reason];
    }
    job.request.sink->on_finish(index, std::move(finish));
  }

  void end_early(size_t index, FinishReason reason, const Status& status) {
    Job& job = *running_[index];
    for (size_t c = 0; c < job.choices.size(); ++c) {
      if (job.choices[c].live) finish_choice(job, static_cast<int>(c), {reason, {}, {}});
    }
    end(index, status);
  }

  // The job at `index` of running_ is over: its pages are free before its sink hears of it.
  void end(size_t index, const Status& status) {
    std::unique_ptr<Job> job = std::move(running_[index]);
    running_[index] = std::move(running_.back());
    running_.pop_back();
    job->usage.total_seconds = seconds_between(job->arrival, Clock::now());
    {
      const std::lock_guard lock(mu_);
      live_.erase(job->request.id);
      if (job->prefilled != Clock::time_point()) stats_.kv_pages_free += job->pages;
      stats_.running = static_cast<int64_t>(running_.size());
    }
    job->request.sink->on_done(status, job->usage);
    job.reset();
    const std::lock_guard lock(mu_);
    if (--unfinished_ == 0) idle_.notify_all();
  }

  // constant
  const FakeEngineOptions options_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  EngineInfo info_;

  // engine thread
  std::vector<std::unique_ptr<Job>> running_;
  std::vector<std::pair<Job*, Code>> aborted_;
  Clock::time_point prefill_until_;

  // guarded by mu_
  std::mutex mu_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<std::unique_ptr<Job>> waiting_;
  std::unordered_map<std::string, Job*> live_;
  EngineStats stats_;
  std::optional<Clock::time_point> first_request_;
  int64_t unfinished_ = 0;  // sinks that wait for on_done()
  bool draining_ = false;
  bool stopping_ = false;
  Status failure_;

  std::thread thread_;
};

// A byte per microsecond.
void pretend_to_load(const FakeEngineOptions& options) {
  const Clock::time_point begin = Clock::now();
  const duration<double> whole(options.load_seconds);
  while (true) {
    const duration<double> taken = Clock::now() - begin;
    if (taken >= whole) return;
    if (options.on_progress) {
      options.on_progress(
          {"weights", static_cast<int64_t>(taken.count() * 1e6),
           static_cast<int64_t>(whole.count() * 1e6)});
    }
    std::this_thread::sleep_for(std::min(whole - taken, duration<double>(0.02)));
  }
}

}  // namespace

Result<std::unique_ptr<Engine>> make_fake_engine(const FakeEngineOptions& options) {
  pretend_to_load(options);
  std::unique_ptr<Tokenizer> tokenizer = make_byte_tokenizer(kByteVocabulary);
  if (!options.tokenizer.empty()) {
    Result<std::unique_ptr<Tokenizer>> loaded = load_tokenizer(options.tokenizer);
    if (!loaded.ok()) return loaded.status();
    tokenizer = std::move(loaded).value();
  }
  return std::unique_ptr<Engine>(std::make_unique<FakeEngine>(options, std::move(tokenizer)));
}

}  // namespace engram::engine

// The engine's thread: plan -> fetch -> run -> commit, and the queue in front of it. On a device
// that samples into its own memory the next decode step is planned and enqueued before the results
// of the one that runs are there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/model/model.h"
#include "engine/model/weights.h"
#include "engine/run/backend.h"
#include "engine/run/engine.h"
#include "engine/run/live_request.h"
#include "engine/run/runner.h"
#include "engine/run/validate.h"
#include "engine/sched/prefetch.h"
#include "engine/sched/scheduler.h"
#include "memory/device/device.h"
#include "memory/kv/kv_cache.h"
#include "memory/kv/page_pool.h"

namespace engram::engine {

// What the loop works with, made by make_engine(). In the order in which they refer to each other.
struct EngineParts {
  EngineOptions options;
  EngineInfo info;
  std::vector<int32_t> eos;  // of config.json and generation_config.json
  std::unique_ptr<Tokenizer> tokenizer;
  Backend backend;
  std::unique_ptr<Ops> ops;
  std::optional<Weights> weights;
  // Another set after a swap; shared with who looks at reports meanwhile.
  std::shared_ptr<memory::TableSet> tables;
  std::unique_ptr<memory::Stream> compute;
  std::optional<memory::KvCache> cache;
  std::unique_ptr<memory::PagePool> pool;
  std::unique_ptr<Model> model;
  std::unique_ptr<StepRows> step_rows;  // null: decode steps gather no rows themselves
  std::unique_ptr<Prefetch> prefetch;
  std::unique_ptr<Runner> runner;
};

class EngineLoop : public Engine {
 public:
  explicit EngineLoop(std::unique_ptr<EngineParts> parts);
  ~EngineLoop() override;

  const EngineInfo& info() const override { return parts_->info; }
  const Tokenizer& tokenizer() const override { return *parts_->tokenizer; }
  memory::Status submit(Request request) override;
  void abort(const std::string& id, memory::Code code) override;
  EngineStats stats() override;
  memory::Status failure() override;
  std::vector<memory::TableReport> tables() override;
  memory::Result<TableSwap> swap_tables(const memory::TableSetOptions& options) override;
  memory::Result<size_t> open_idle_tables(const memory::TableSetOptions& options) override;
  memory::Result<TableTouch> touch_tables() override;
  memory::Result<TableSwap> exchange_tables(size_t place) override;
  memory::Status set_ngram_fetch(const std::string& mode) override;
  bool drain(std::chrono::milliseconds limit) override;

 private:
  struct Arrival {
    Request request;
    Clock::time_point at;
  };
  // On the device.
  struct Step {
    BatchPlan plan;
    std::vector<SampleRow> rows;                // of its logits
    std::vector<SamplingRow> sampled;           // where they go, but for prompt positions
    std::span<const SampleResult> coming = {};  // of the rows
    Clock::time_point begin = {};
  };

  struct StepTimes {
    double seconds = 0;
    std::optional<double> waited;  // for n-gram rows, in seconds; none: not timed
  };

  // A swap on its way to the engine thread and back. Guarded by mu_.
  struct PendingSwap {
    std::shared_ptr<memory::TableSet> set;  // the new one, afterwards the old one
    TableSwap result;
    memory::Status status;
    bool done = false;
  };

  // A change of how rows are fetched. Guarded by mu_.
  struct PendingMode {
    FetchMode mode = FetchMode::kPrefetch;
    memory::Status status = {};
    bool done = false;
  };

  void loop();
  bool wait_for_work(std::vector<std::pair<std::string, memory::Code>>* aborts);
  void take_arrivals(std::vector<Arrival> arrivals);
  void begin(Arrival arrival);
  void expire();
  memory::Status begin_swap();
  void end_swap();
  memory::Result<std::unique_ptr<memory::TableSet>> open_again(
      const memory::TableSetOptions& options);
  memory::Result<TableSwap> swap_with(std::shared_ptr<memory::TableSet>* set, double open_seconds);
  void take_swap();
  void take_mode();
  void use_tables(const std::string& version);
  void start_verifier();
  void take_bad_rows();

  void step();
  Step start(BatchPlan plan, Clock::time_point begin);
  std::optional<Step> start_ahead();
  void undo(const BatchPlan& plan);
  void end_if_failed();
  void count_step(const BatchPlan& plan, double seconds);
  std::vector<std::span<const int32_t>> tokens_of(const BatchPlan& plan) const;
  void make_sample_rows(Step& step);
  SampleRow sample_row(const Sequence& sequence, size_t position);
  void start_requests(const BatchPlan& plan);
  void look_ahead();
  void commit(Step& step, const std::vector<MissingRows>& missing);
  std::set<uint64_t> judge_missing(const BatchPlan& plan, const std::vector<MissingRows>& missing);
  void keep_prompt_logprobs(const Step& step, const std::set<uint64_t>& undone);
  void count_gates(const BatchPlan& plan, const std::set<uint64_t>& undone);
  void fetch_when_sampled(const Step& step);
  void fetch_sampled(std::span<const SamplingRow> sampled);
  void deliver(uint64_t sequence, const SampleResult& result);

  void end_sequence(LiveRequest& live, Choice& choice);
  void end_request(LiveRequest& live, const memory::Status& status, FinishReason reason);
  void finish_usage(LiveRequest& live);
  LiveRequest& owner(uint64_t sequence) { return *by_sequence_.at(sequence).first; }
  bool is_live(uint64_t sequence) const { return by_sequence_.contains(sequence); }
  Choice& choice(uint64_t sequence) { return *by_sequence_.at(sequence).second; }
  void publish_stats();

  // Constant.
  std::unique_ptr<EngineParts> parts_;  // stays in place: its members refer to each other
  RequestLimits request_limits_;
  int64_t max_queued_ = 0;

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable work_;  // something to do
  std::condition_variable idle_;  // a request ended
  std::condition_variable swapped_;
  PendingSwap* swap_ = nullptr;
  bool swapping_ = false;  // from opening to releasing
  PendingMode* mode_ = nullptr;
  std::shared_ptr<memory::TableSet> tables_;  // what the engine thread uses
  std::vector<RowVerifier::Bad> bad_rows_;    // found by the verifier
  std::vector<Arrival> arrivals_;
  std::vector<std::pair<std::string, memory::Code>> aborts_;
  std::set<std::string> live_ids_;
  int64_t queued_ = 0;         // submitted, and in no step so far
  int64_t open_requests_ = 0;  // submitted, and on_done() was not called so far
  bool draining_ = false;
  bool stopping_ = false;
  memory::Status failure_;
  EngineStats published_;

  // Whoever set swapping_.
  std::vector<std::shared_ptr<memory::TableSet>> idle_tables_;

  // Engine thread.
  Scheduler scheduler_;
  std::map<uint64_t, std::unique_ptr<LiveRequest>> live_;  // by key
  std::unordered_map<std::string, uint64_t> by_id_;
  std::unordered_map<uint64_t, std::pair<LiveRequest*, Choice*>> by_sequence_;
  std::string tables_version_;
  FetchMode fetch_mode_;
  int64_t distrusted_ = 0;  // times that cached prefixes became useless through a wrong row
  uint64_t next_key_ = 1;
  uint64_t next_sequence_ = 1;
  EngineStats totals_;  // what no other object counts
  std::vector<StepTimes> new_steps_;
  // Between two turns of the loop: a step that was started ahead. Sequences of it may have ended.
  std::optional<Step> running_;
  Clock::time_point last_step_end_;

  std::unique_ptr<RowVerifier> verifier_;  // null: nothing is verified. Set by the constructor

  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace engram::engine

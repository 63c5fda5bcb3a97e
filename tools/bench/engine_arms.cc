#include "tools/bench/engine_arms.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "tools/bench/engine_work.h"

namespace engram::tools::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPoll{200};
using memory::Result;
using memory::Status;

// The client of one measurement.
struct Client {
  std::mutex mu;
  std::condition_variable all_done;
  size_t open = 0;
  bool stopping = false;
  Status status;  // the first error
};

// Collects one request. Everything but `client` belongs to the engine's thread until on_done().
class RecordingSink : public engine::Sink {
 public:
  RecordingSink(Client* client, Clock::time_point begin, int64_t most_tokens)
      : client_(client), begin_(begin) {
    record.messages.reserve(static_cast<size_t>(most_tokens));
    tokens.reserve(static_cast<size_t>(most_tokens));
  }

  void on_delta(engine::Delta delta) override {
    if (delta.token_ids.empty()) return;
    const double now = std::chrono::duration<double>(Clock::now() - begin_).count();
    record.messages.push_back({now, static_cast<int32_t>(delta.token_ids.size())});
    tokens.insert(tokens.end(), delta.token_ids.begin(), delta.token_ids.end());
  }
  void on_finish(int, engine::Finish) override {}
  void on_done(const Status& status, const engine::Usage& usage) override {
    record.done_s = std::chrono::duration<double>(Clock::now() - begin_).count();
    record.prompt_tokens = usage.prompt_tokens;
    record.output_tokens = usage.completion_tokens;
    const std::lock_guard<std::mutex> lock(client_->mu);
    const bool cancelled = client_->stopping && status.code() == memory::Code::kCancelled;
    record.outcome = status.ok() ? Outcome::kCompleted
                     : cancelled ? Outcome::kCancelled
                                 : Outcome::kFailed;
    if (client_->status.ok() && !cancelled) client_->status = status;
    if (--client_->open == 0) client_->all_done.notify_all();
  }

  RequestRecord record;
  std::vector<int32_t> tokens;

 private:
  Client* const client_;
  const Clock::time_point begin_;
};

std::string request_id(size_t index) {
  return "bench-" + std::to_string(index);
}

engine::Request make_request(
    const PlannedRequest& planned, size_t index, const ServeOptions& options) {
  engine::Request request;
  request.id = request_id(index);
  request.prompt_ids.assign(planned.prompt_ids.begin(), planned.prompt_ids.end());
  request.sampling.temperature = options.temperature;
  request.sampling.ignore_eos = planned.ignore_eos;
  request.sampling.max_tokens = planned.max_tokens;
  request.bypass_prefix_cache = !options.use_prefix_cache;
  return request;
}

void wait_for_all(
    engine::Engine& engine, size_t requests, const ServeOptions& options, Client* client) {
  std::unique_lock<std::mutex> lock(client->mu);
  while (!client->all_done.wait_for(lock, kPoll, [&] { return client->open == 0; })) {
    const size_t done = requests - client->open;
    const bool stop = !client->stopping && options.stop != nullptr && options.stop->load();
    client->stopping |= stop;
    lock.unlock();
    if (options.on_poll) options.on_poll(done);
    for (size_t i = 0; stop && i < requests; ++i) {
      engine.abort(request_id(i), memory::Code::kCancelled);
    }
    lock.lock();
  }
}

struct ArmKind {
  const char* key;
  const char* name;
  const char* fetch;
  const char* place;  // of the tables; empty: any, no row is read
  bool same_tokens;
};
constexpr ArmKind kKinds[] = {
    {"N", "no Engram: the module is left out", "skip", "", false},
    {"D", "host memory, prefetched", "prefetch", "host", true},
    {"S", "host memory, fetched within the step", "sync", "host", true},
    {"Z", "rows of zeros, nothing fetched", "zero", "", false},
    {"H", "device memory, prefetched", "prefetch", "hbm", true},
    {"V", "NVMe, prefetched", "prefetch", "nvme", true}};

void read_work(EngineWork work, Sample* sample) {
  sample->step_seconds = std::move(work.step_seconds);
  sample->wait_seconds = std::move(work.wait_seconds);
  sample->rows = work.rows;
  sample->unique_rows = work.unique_rows;
  sample->bytes = work.row_bytes;
  sample->gather_seconds = work.gather_seconds.value_or(0);
}

// Of the steps in which all requests decode: the last ones. The request that began last saw
// nothing but those after its first token.
void keep_decode_steps(const std::vector<RequestRecord>& records, Sample* sample) {
  const RequestRecord* last = nullptr;
  for (const RequestRecord& r : records) {
    if (r.messages.empty()) return;
    if (last == nullptr || r.messages.front().at_s > last->messages.front().at_s) last = &r;
  }
  const size_t decoding = last->messages.size() - 1;
  const size_t steps = sample->step_seconds.size();
  if (decoding == 0 || decoding >= steps) return;
  const int64_t drop = static_cast<int64_t>(steps - decoding);
  const auto keep = [&](std::vector<double>& of_steps) {
    if (!of_steps.empty()) of_steps.erase(of_steps.begin(), of_steps.begin() + drop);
  };
  keep(sample->step_seconds);
  keep(sample->wait_seconds);
}

}  // namespace

Result<std::vector<RequestRecord>> serve_plan(
    engine::Engine& engine,
    const std::vector<PlannedRequest>& plan,
    std::vector<std::vector<int32_t>>* tokens,
    const ServeOptions& options) {
  Client client;
  client.open = plan.size();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<engine::Request> requests;
  const Clock::time_point begin = Clock::now();
  for (size_t i = 0; i < plan.size(); ++i) {
    requests.push_back(make_request(plan[i], i, options));
    sinks.push_back(std::make_shared<RecordingSink>(&client, begin, plan[i].max_tokens));
    requests.back().sink = sinks.back();
  }
  for (size_t i = 0; i < plan.size(); ++i) {
    const auto at = begin + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(plan[i].at_s));
    if (plan[i].at_s > 0) std::this_thread::sleep_until(at);
    sinks[i]->record.planned_s = plan[i].at_s;
    sinks[i]->record.sent_s = std::chrono::duration<double>(Clock::now() - begin).count();
    const Status status = engine.submit(std::move(requests[i]));
    if (status.ok()) continue;
    const std::lock_guard<std::mutex> lock(client.mu);
    client.open -= plan.size() - i;
    if (client.status.ok()) client.status = status;
    break;
  }
  wait_for_all(engine, plan.size(), options, &client);
  if (!client.status.ok()) return client.status;
  std::vector<RequestRecord> records;
  for (size_t i = 0; i < plan.size(); ++i) {
    const std::shared_ptr<RecordingSink>& sink = sinks[i];
    const int64_t got = std::ssize(sink->tokens);
    const bool completed = sink->record.outcome == Outcome::kCompleted;
    if (completed && plan[i].ignore_eos && got != plan[i].max_tokens) {
      return memory::internal(
          "request " + std::to_string(i) + " was answered with " + std::to_string(got) +
          " tokens, expected " + std::to_string(plan[i].max_tokens));
    }
    records.push_back(std::move(sink->record));
    tokens->push_back(std::move(sink->tokens));
  }
  return records;
}

struct EngineArms::State {
  // Exchanges tables until those of `wanted` are in use: the own ones come back first.
  Status use(const std::string& wanted) {
    if (wanted.empty() || wanted == used) return {};
    for (const std::string& place : {used, wanted}) {
      if (place == places.own) continue;
      const auto found = std::ranges::find(places.idle, place);
      const size_t index = static_cast<size_t>(found - places.idle.begin());
      ENGRAM_RETURN_IF_ERROR(engine->exchange_tables(index).status());
      used = place == used ? places.own : place;
    }
    return {};
  }

  engine::Engine* engine = nullptr;
  TablePlaces places;
  std::string used;
  ArmOptions options;
};

class EngineArms::EngineArm : public Arm {
 public:
  EngineArm(State* state, const ArmKind& kind) : state_(state), kind_(kind) {}

  Result<Sample> measure(const Workload& workload, uint64_t seed) override {
    const std::vector<PlannedRequest> plan = plan_requests(workload, seed);
    engine::Engine& engine = *state_->engine;
    ENGRAM_RETURN_IF_ERROR(state_->use(kind_.place));
    ENGRAM_RETURN_IF_ERROR(engine.set_ngram_fetch(kind_.fetch));
    WorkMeter meter(&engine);
    ServeOptions serve;
    serve.stop = state_->options.stop;
    serve.on_poll = [&](size_t done) {
      meter.poll();
      const double all = static_cast<double>(plan.size());
      if (state_->options.on_share) state_->options.on_share(static_cast<double>(done) / all);
    };
    Sample sample;
    const Result<std::vector<RequestRecord>> records =
        serve_plan(engine, plan, &sample.tokens, serve);
    if (!records.ok()) return records.status();
    for (const RequestRecord& r : records.value()) {
      if (r.outcome == Outcome::kCancelled) return Status(memory::Code::kCancelled, "stopped");
    }
    read_records(workload, records.value(), &sample);
    read_work(meter.read(), &sample);
    if (workload.decode_only) keep_decode_steps(records.value(), &sample);
    return sample;
  }

 private:
  State* const state_;
  const ArmKind& kind_;
};

EngineArms::EngineArms() : state_(std::make_unique<State>()) {}
EngineArms::~EngineArms() = default;

Result<std::unique_ptr<EngineArms>> EngineArms::make(
    engine::Engine* engine,
    const TablePlaces& places,
    const std::vector<std::string>& keys,
    const ArmOptions& options) {
  std::unique_ptr<EngineArms> arms(new EngineArms());
  arms->state_->engine = engine;
  arms->state_->options = options;
  arms->state_->places = places;
  arms->state_->used = places.own;
  for (const std::string& key : keys) {
    const ArmKind* kind = nullptr;
    for (const ArmKind& known : kKinds) {
      if (key == known.key) kind = &known;
    }
    if (kind == nullptr) {
      return memory::invalid_argument("there is no arm " + key + ": expected some of N,D,S,Z,H,V");
    }
    const std::string place = kind->place;
    const auto& idle = places.idle;
    if (!place.empty() && place != places.own && std::ranges::find(idle, place) == idle.end()) {
      return memory::invalid_argument("arm " + key + " needs tables in " + place);
    }
    arms->arms_.push_back(std::make_unique<EngineArm>(arms->state_.get(), *kind));
    arms->entries_.push_back({kind->key, kind->name, kind->same_tokens, arms->arms_.back().get()});
  }
  return arms;
}

}  // namespace engram::tools::bench

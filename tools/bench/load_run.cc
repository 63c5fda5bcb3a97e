#include "tools/bench/load_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "memory/device/device_cpu.h"

namespace engram::tools::bench {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
// Until the first request: the sending thread has begun by then.
constexpr auto kLead = std::chrono::milliseconds(10);
constexpr auto kTurn = std::chrono::milliseconds(100);
// A server to which nobody can connect for so long is gone.
constexpr auto kPatience = std::chrono::seconds(2);

double cpu_seconds() {
  rusage used = {};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

// gRPC 1.51 receives callback calls with half as many threads as there are cores, 2 at least.
int thread_count() {
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return std::min(cores, std::clamp(cores / 2, 2, 16) + 1);
}

void set_sampling(const LoadSampling& from, v1::CompleteRequest* request) {
  v1::SamplingOptions* to = request->mutable_sampling();
  if (from.temperature) to->set_temperature(*from.temperature);
  if (from.top_p) to->set_top_p(*from.top_p);
  if (from.top_k) to->set_top_k(*from.top_k);
  if (from.min_p) to->set_min_p(*from.min_p);
}

}  // namespace

LoadRun::LoadRun(
    const Channels& channels,
    const std::vector<PlannedRequest>& plan,
    const std::vector<PlannedRequest>& probes,
    const LoadOptions& options)
    : channels_(channels),
      plan_(plan),
      probes_(probes),
      options_(options),
      left_(static_cast<int64_t>(plan.size())),
      next_probe_(plan.size()),
      turns_([this] { return make_next(); }),
      gate_(options.max_concurrency) {
  for (const std::shared_ptr<grpc::Channel>& channel : channels) {
    stubs_.push_back(v1::Completions::NewStub(channel));
  }
  result_.requests.resize(plan.size());
  for (size_t i = 0; i < plan.size(); ++i) {
    result_.requests[i].planned_s = plan[i].at_s;
    result_.requests[i].prompt_tokens = plan[i].prompt_tokens;
  }
  stop_pacing_ = plan.empty();
}

PlannedRequest LoadRun::probe_of(size_t index) const {
  const size_t number = index - plan_.size();
  PlannedRequest probe = probes_[number % probes_.size()];
  probe.at_s = static_cast<double>(number + 1) / options_.probe_rate;
  return probe;
}

v1::CompleteRequest LoadRun::request_of(size_t index, const PlannedRequest& planned) const {
  v1::CompleteRequest request;
  if (planned.prompt_ids.empty()) {
    request.set_text(planned.prompt_text);
  } else {
    request.mutable_token_ids()->mutable_ids()->Assign(
        planned.prompt_ids.begin(), planned.prompt_ids.end());
  }
  if (!options_.model.empty()) request.set_model(options_.model);
  if (!options_.request_id_prefix.empty()) {
    request.set_request_id(
        options_.request_id_prefix + (is_probe(index)
                                          ? "probe-" + std::to_string(index - plan_.size())
                                          : std::to_string(index)));
  }
  set_sampling(options_.sampling, &request);
  if (planned.max_tokens > 0) {
    request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(planned.max_tokens));
  }
  if (planned.ignore_eos) request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

std::shared_ptr<LoadStream> LoadRun::make_stream(size_t index) const {
  if (!is_probe(index)) {
    const PlannedRequest& planned = plan_[index];
    return std::make_shared<LoadStream>(setting_, index, planned, request_of(index, planned));
  }
  const PlannedRequest probe = probe_of(index);
  return std::make_shared<LoadStream>(setting_, index, probe, request_of(index, probe));
}

LoadResult LoadRun::run() {
  zero_ = RunClock::now() + kLead;
  setting_ = {this, &timers_, zero_, options_.request_timeout_s, options_.keep_text};
  result_.started_at = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  result_.threads = thread_count();
  const double cpu = cpu_seconds();
  // A second one steps in where the first is held up; on one core it would be held up as well.
  std::vector<Pacer::Part> parts = {Pacer::Part::kFirst};
  if (memory::usable_cores() > 1) parts.push_back(Pacer::Part::kSecond);
  pacing_ = static_cast<int>(parts.size());
  std::vector<std::thread> senders;
  for (const Pacer::Part part : parts) senders.emplace_back([this, part] { pace(part); });
  watch();
  for (std::thread& sender : senders) sender.join();
  result_.client_cpu_s = cpu_seconds() - cpu;
  for (RequestRecord& record : probe_records_) {
    if (record.sent_s >= 0) result_.probes.push_back(std::move(record));
  }
  for (const RequestRecord& record : result_.requests) {
    result_.duration_s = std::max(result_.duration_s, record.done_s);
  }
  return std::move(result_);
}

std::optional<Turns<std::shared_ptr<LoadStream>>::Item> LoadRun::make_next() {
  const double request_at = next_request_ < plan_.size() ? plan_[next_request_].at_s : kNever;
  const double probe_at = probes_.empty() ? kNever : probe_of(next_probe_).at_s;
  const double at_s = std::min(probe_at, request_at);
  if (at_s == kNever) return std::nullopt;
  const size_t index = probe_at < request_at ? next_probe_++ : next_request_++;
  return Turns<std::shared_ptr<LoadStream>>::Item{make_stream(index), at_s};
}

void LoadRun::pace(Pacer::Part part) {
  const Pacer pacer(&stop_pacing_, part);
  if (part == Pacer::Part::kFirst) result_.priority = pacer.has_priority();
  while (const auto turn = turns_.next()) {
    const auto delay =
        std::chrono::duration_cast<RunClock::duration>(std::chrono::duration<double>(turn->at_s));
    if (!pacer.wait_until(zero_ + delay)) break;
    bool may_start = false;
    const auto stream = turns_.take(*turn, [&](const std::shared_ptr<LoadStream>& taken) {
      may_start = is_probe(taken->index()) || gate_.enter(taken->index());
    });
    if (may_start) start(*stream, turn->at_s);
    turns_.make_ahead();
  }
  const std::lock_guard lock(mu_);
  --pacing_;
  changed_.notify_all();
}

void LoadRun::start(const std::shared_ptr<LoadStream>& stream, double ready_s) {
  const size_t index = stream->index();
  {
    const std::lock_guard lock(mu_);
    if (stopped_) return;
    live_.emplace(index, stream);
    // The one before it may be on its way here.
    if (is_probe(index)) {
      probe_records_.resize(std::max(probe_records_.size(), index - plan_.size() + 1));
    }
  }
  stream->start(stubs_[index % stubs_.size()].get(), ready_s);
  if (is_probe(index) || plan_[index].cancel_after_s < 0) return;
  const auto delay = std::chrono::duration_cast<RunClock::duration>(
      std::chrono::duration<double>(plan_[index].cancel_after_s));
  timers_.add(RunClock::now() + delay, [weak = std::weak_ptr<LoadStream>(stream)] {
    if (const std::shared_ptr<LoadStream> alive = weak.lock()) alive->cancel();
  });
}

void LoadRun::judge(RequestRecord& record, double cancel_after_s, const grpc::Status& status) {
  const double at_s = now();
  if (status.ok()) {
    record.outcome = Outcome::kCompleted;
    if (record.done_s < 0) record.done_s = at_s;  // not a single message
    return;
  }
  const bool by_plan = cancel_after_s >= 0 && at_s - record.sent_s >= cancel_after_s;
  record.done_s = at_s;
  record.outcome = Outcome::kFailed;
  if (status.error_code() == grpc::StatusCode::CANCELLED && by_plan) {
    record.outcome = Outcome::kCancelled;
  } else if (stopped_ && options_.interrupted != nullptr && *options_.interrupted) {
    record.outcome = Outcome::kCancelled;
    record.error = "interrupted";
  } else {
    const memory::Code code = static_cast<memory::Code>(status.error_code());
    record.error = memory::Status(code, status.error_message()).to_string();
    failed_.fetch_add(1, std::memory_order_relaxed);
  }
  // A server that refuses says why in the details; without them nobody answered.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    connection_failed_ = true;
  }
}

void LoadRun::finished(LoadStream* stream, const grpc::Status& status) {
  const size_t index = stream->index();
  RequestRecord& record = stream->record();
  judge(record, is_probe(index) ? -1 : plan_[index].cancel_after_s, status);
  if (!is_probe(index)) {
    result_.requests[index] = std::move(record);
    const std::optional<size_t> next = gate_.leave();
    if (next) start(make_stream(*next), now());
    if (left_.fetch_sub(1) == 1) stop_pacing_ = true;  // no more probes
  }
  std::shared_ptr<LoadStream> last;
  {
    const std::lock_guard lock(mu_);
    if (is_probe(index)) probe_records_[index - plan_.size()] = std::move(record);
    const auto found = live_.find(index);
    last = std::move(found->second);
    live_.erase(found);
    ++ending_;
  }
  last.reset();
  ended();
}

void LoadRun::ended() {
  const std::lock_guard lock(mu_);
  if (--ending_ == 0 && live_.empty()) changed_.notify_all();
}

void LoadRun::watch() {
  while (true) {
    {
      std::unique_lock lock(mu_);
      const auto all_over = [this] { return pacing_ == 0 && live_.empty() && ending_ == 0; };
      if (changed_.wait_for(lock, kTurn, all_over)) break;
    }
    if (options_.on_progress) options_.on_progress(progress());
    if (!result_.interrupted && options_.interrupted != nullptr && *options_.interrupted) {
      result_.interrupted = true;
      stop();
    }
    look_for_the_server();
    keep_receivers_awake();
  }
  if (options_.on_progress) options_.on_progress(progress());
}

LoadProgress LoadRun::progress() {
  const int64_t over = static_cast<int64_t>(plan_.size()) - left_;
  const std::lock_guard lock(mu_);
  return {over, static_cast<int64_t>(live_.size()), gate_.waiting(), failed_};
}

// After a call failed for want of a connection.
void LoadRun::look_for_the_server() {
  if (stopped_ || !(looking_ || connection_failed_)) return;
  if (!looking_) last_seen_ = RunClock::now();
  looking_ = true;
  connection_failed_ = false;
  for (const std::shared_ptr<grpc::Channel>& channel : channels_) {
    if (channel->GetState(true) == GRPC_CHANNEL_READY) looking_ = false;
  }
  if (!looking_ || RunClock::now() - last_seen_ < kPatience) return;
  result_.server_lost = "no connection could be made for 2 s";
  stop();
}

// gRPC 1.51's receiving threads nap for 100 ms after a second without events, and all of them may
// nap when an answer comes: a third of the requests of one per second were seen up to 100 ms late.
// A call that is cancelled before it begins is an event, and never reaches the network.
void LoadRun::keep_receivers_awake() {
  if (++rounds_ % 2 != 0) return;
  struct Nothing {
    grpc::ClientContext context;
    v1::CompleteRequest request;
    v1::CompleteResponse response;
  };
  auto* nothing = new Nothing;
  nothing->context.TryCancel();
  {
    const std::lock_guard lock(mu_);
    ++ending_;
  }
  stubs_[0]->async()->Complete(
      &nothing->context, &nothing->request, &nothing->response,
      [this, nothing](const grpc::Status&) {
        delete nothing;
        ended();
      });
}

void LoadRun::stop() {
  std::vector<std::shared_ptr<LoadStream>> streams;
  {
    const std::lock_guard lock(mu_);
    stopped_ = true;
    for (const auto& [index, stream] : live_) streams.push_back(stream);
  }
  stop_pacing_ = true;
  for (const std::shared_ptr<LoadStream>& stream : streams) stream->cancel();
  timers_.hurry();
}

}  // namespace engram::tools::bench

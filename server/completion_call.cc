#include "server/completion_call.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "server/access_log.h"

namespace engram::server {
namespace {

using engine::Clock;
using memory::Code;

// Longer texts are tokenized by a worker: a reaction of gRPC must be short.
constexpr int64_t kInlineTextBytes = 4096;
// Unary answers stay below what gRPC clients accept by default (4 MiB).
constexpr int64_t kMaxUnaryBytes = 3670016;

// Of a name in the log.
constexpr size_t kMaxNameBytes = 64;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

const char* rejection_of(const CallError& error) {
  const std::string& message = error.status.message();
  switch (error.status.code()) {
    case Code::kResourceExhausted:
      return "queue_full";
    case Code::kFailedPrecondition:
      return "kv";
    case Code::kUnavailable:
      return message.find("is loading") != std::string::npos ? "loading" : "draining";
    case Code::kNotFound:
      return "model";
    case Code::kAlreadyExists:
      return "duplicate";
    default:
      return message.find("max_model_len") != std::string::npos ? "too_long" : "invalid";
  }
}

const char* source_of(Code code) {
  switch (code) {
    case Code::kCancelled:
      return "client";
    case Code::kDeadlineExceeded:
      return "deadline";
    case Code::kUnavailable:
      return "drain";
    default:
      return "error";
  }
}

void add(std::optional<double> seconds, std::optional<double>* sum) {
  if (seconds) *sum = sum->value_or(0) + *seconds;
}

// Of a batch: counts add up, gates are averaged by tokens.
void add_usage(const engine::Usage& part, engine::Usage* sum) {
  const double before = static_cast<double>(sum->prompt_tokens + sum->completion_tokens);
  const double added = static_cast<double>(part.prompt_tokens + part.completion_tokens);
  for (const auto& [layer, gate] : part.ngram.mean_gate) {
    double& mean = sum->ngram.mean_gate[layer];
    mean = (mean * before + gate * added) / std::max(1.0, before + added);
  }
  sum->prompt_tokens += part.prompt_tokens;
  sum->completion_tokens += part.completion_tokens;
  sum->cached_tokens += part.cached_tokens;
  sum->preemptions += part.preemptions;
  sum->queue_seconds = std::max(sum->queue_seconds, part.queue_seconds);
  for (const std::string& version : part.table_versions) {
    std::vector<std::string>& all = sum->table_versions;
    if (std::find(all.begin(), all.end(), version) == all.end()) all.push_back(version);
  }
  sum->ngram.rows += part.ngram.rows;
  sum->ngram.unique_rows += part.ngram.unique_rows;
  sum->ngram.bytes += part.ngram.bytes;
  sum->ngram.hash_seconds += part.ngram.hash_seconds;
  add(part.ngram.gather_seconds, &sum->ngram.gather_seconds);
  add(part.ngram.exposed_wait_seconds, &sum->ngram.exposed_wait_seconds);
}

}  // namespace

// The engine's view of one prompt of a call.
class CompletionCall::PartSink : public engine::Sink {
 public:
  PartSink(std::shared_ptr<CompletionCall> call, int part) : call_(std::move(call)), part_(part) {}
  void on_delta(engine::Delta delta) override { call_->on_delta(part_, std::move(delta)); }
  void on_finish(int choice, engine::Finish finish) override {
    call_->on_finish(part_, choice, finish);
  }
  void on_done(const memory::Status& status, const engine::Usage& usage) override {
    call_->on_done(status, usage);
  }

 private:
  const std::shared_ptr<CompletionCall> call_;
  const int part_;
};

CompletionCall::CompletionCall(Front& front, const v1::CompleteRequest* request, CallHeader header)
    : front_(front), request_(request), arrival_(Clock::now()), deadline_(header.deadline) {
  if (front.max_request_seconds > 0) {
    const Clock::time_point limit =
        arrival_ + std::chrono::duration_cast<Clock::duration>(
                       std::chrono::duration<double>(front.max_request_seconds));
    deadline_ = deadline_ ? std::min(*deadline_, limit) : limit;
  }
  record_.service = "engram.v1.Completions";
  record_.method = std::move(header.method);
  record_.peer = std::move(header.peer);
  record_.model = request->model().empty() ? front.slot.served_names()[0]
                                           : cut_text(request->model(), kMaxNameBytes);
  if (is_request_id(request->request_id())) {
    record_.request_id = request->request_id();
  } else if (is_request_id(header.request_id)) {
    record_.request_id = std::move(header.request_id);
  } else {
    record_.request_id = make_request_id(front);
  }
}

void CompletionCall::begin() {
  front_.calls.add(shared_from_this());
  front_.metrics.call_started();
  CallError error = read_request(*request_, &read_);
  if (error.ok()) error = {front_.slot.check_model(request_->model()), ""};
  if (error.ok()) {
    memory::Result<std::shared_ptr<engine::Engine>> engine = front_.slot.ready_engine();
    error = {engine.status(), ""};
    if (error.ok()) engine_ = std::move(engine).value();
  }
  if (!error.ok()) {
    prepared(error);
  } else if (read_.text_bytes > kInlineTextBytes) {
    front_.text.post([call = shared_from_this()] { call->prepare(); });
  } else {
    prepare();
  }
}

void CompletionCall::prepare() {
  prepared(submit_all());
}

CallError CompletionCall::submit_all() {
  std::vector<std::vector<int32_t>> prompts;
  const Clock::time_point begin = Clock::now();
  apply_defaults(*request_, engine_->info().sampling_defaults, &read_.sampling);
  CallError error = read_prompts(*request_, read_, engine_->tokenizer(), &prompts);
  if (!error.ok()) return error;
  if (read_.text_bytes > 0) front_.metrics.tokenized(seconds_between(begin, Clock::now()));
  {
    const std::lock_guard lock(mu_);
    if (!error_.ok()) return error_;  // cancelled while a worker tokenized
    record_.choices = read_.sampling.n;
    const v1::StoppingOptions& stopping = request_->stopping();
    if (stopping.has_max_tokens()) record_.max_tokens = stopping.max_tokens();
    last_token_.assign(prompts.size() * static_cast<size_t>(read_.sampling.n), Clock::time_point());
    replies_.emplace(read_.switches, &engine_->tokenizer());
    const auto created = std::chrono::system_clock::now().time_since_epoch();
    replies_->begin(
        record_.request_id, record_.model,
        std::chrono::duration_cast<std::chrono::seconds>(created).count());
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    engine::Request part = make_part(i, std::move(prompts[i]));
    const std::string part_id = part.id;
    {
      const std::lock_guard lock(mu_);
      parts_.push_back(part_id);
      ++parts_left_;
    }
    error.status = engine_->submit(std::move(part));
    if (error.ok()) continue;
    const std::lock_guard lock(mu_);
    parts_.pop_back();
    --parts_left_;
    return error;
  }
  return {};
}

engine::Request CompletionCall::make_part(size_t index, std::vector<int32_t> ids) {
  engine::Request part;
  part.id = record_.request_id;
  if (index > 0) part.id += "#" + std::to_string(index);  // '#' is in no request id
  part.prompt_ids = std::move(ids);
  part.sampling = read_.sampling;
  part.deadline = deadline_;
  part.bypass_prefix_cache = read_.bypass_prefix_cache;
  part.cache_salt = read_.cache_salt;
  part.sink = std::make_shared<PartSink>(shared_from_this(), static_cast<int>(index));
  return part;
}

// The request is with the engine, or refused. Until here the RPC is not ended, since that would
// free the request's message.
void CompletionCall::prepared(const CallError& error) {
  std::optional<Code> ended_before;
  {
    const std::lock_guard lock(mu_);
    preparing_ = false;
    record_.submitted = error.ok() || !parts_.empty();
    if (!error_.ok()) {
      ended_before = error_.status.code();
    } else if (!error.ok()) {
      record_.rejected = rejection_of(error);
      error_ = error;
      replies_.reset();  // a refused call gets its status and nothing else
      if (!parts_.empty()) ended_before = Code::kCancelled;
    }
  }
  if (ended_before) abort_parts(*ended_before);
  {
    const std::lock_guard lock(mu_);
    if (over()) {
      complete_locked();
    } else if (abandoned_) {
      post_pump_locked();
    }
  }
  report_if_over();
}

// Nothing more will come from the engine.
void CompletionCall::complete_locked() {
  engine::Usage& usage = record_.usage;
  usage.first_token_seconds = record_.first_token_seconds;
  usage.total_seconds = seconds_between(arrival_, Clock::now());
  if (error_.ok()) {
    replies_->set_usage(usage, !engine_->info().config.engram.layer_ids.empty());
  }
  post_pump_locked();
}

void CompletionCall::abort_parts(Code code) {
  std::vector<std::string> parts;
  {
    const std::lock_guard lock(mu_);
    parts = parts_;
  }
  for (const std::string& part : parts) engine_->abort(part, code);
}

void CompletionCall::fail_locked(const CallError& error, const char* source) {
  if (!error_.ok()) return;
  error_ = error;
  record_.aborted = source;
}

void CompletionCall::abort(Code code, const std::string& message, const char* source) {
  {
    const std::lock_guard lock(mu_);
    if (finished_ || !error_.ok()) return;
    fail_locked({{code, message}, ""}, source);
    abandoned_ = true;
    if (preparing_) return;  // prepared() goes on from here
  }
  abort_parts(code);
  const std::lock_guard lock(mu_);
  post_pump_locked();
}

void CompletionCall::rpc_cancelled() {
  const bool late = deadline_ && Clock::now() >= *deadline_;
  abort(
      late ? Code::kDeadlineExceeded : Code::kCancelled,
      late ? "the deadline passed" : "the client cancelled", late ? "deadline" : "client");
}

void CompletionCall::check_stall(Clock::time_point now, Clock::duration limit) {
  {
    const std::lock_guard lock(mu_);
    if (rpc_done_ || !write_in_flight_ || now - write_begin_ < limit) return;
    write_begin_ = now;  // counted once per limit
  }
  front_.metrics.client_stalled();
  abort(Code::kCancelled, "the client stopped reading", "stall");
  cancel_rpc();
}

void CompletionCall::post_pump_locked() {
  if (pump_posted_ || write_in_flight_ || finished_) return;
  pump_posted_ = true;
  front_.delivery.post([call = shared_from_this()] { call->pump(); });
}

void CompletionCall::on_delta(int part, engine::Delta&& delta) {
  const Clock::time_point now = Clock::now();
  const int choice = part * read_.sampling.n + delta.choice;
  bool too_large = false;
  {
    const std::lock_guard lock(mu_);
    if (!error_.ok()) return;
    if (record_.first_token_seconds == 0) {
      record_.first_token_seconds = seconds_between(arrival_, now);
    }
    Clock::time_point& last = last_token_[static_cast<size_t>(choice)];
    if (last != Clock::time_point()) record_.inter_token.add(seconds_between(last, now));
    last = now;
    replies_->add(choice, std::move(delta));
    if (streams()) {
      post_pump_locked();
    } else {
      too_large = replies_->bytes() > kMaxUnaryBytes;
    }
  }
  if (too_large) {
    abort(
        Code::kResourceExhausted,
        "the answer is larger than 3.5 MiB; use StreamComplete or ask for fewer log-probabilities",
        "error");
  }
}

void CompletionCall::on_finish(int part, int choice, const engine::Finish& finish) {
  const std::lock_guard lock(mu_);
  ++record_.finished[finish.reason];
  if (error_.ok()) replies_->finish(part * read_.sampling.n + choice, finish);
}

void CompletionCall::on_done(const memory::Status& status, const engine::Usage& usage) {
  bool abort_others = false;
  {
    const std::lock_guard lock(mu_);
    add_usage(usage, &record_.usage);
    if (!status.ok() && error_.ok()) {
      fail_locked({status, ""}, source_of(status.code()));
      abort_others = parts_left_ > 1;
    }
    --parts_left_;
    if (over()) complete_locked();
  }
  if (abort_others) abort_parts(Code::kCancelled);
  report_if_over();
}

void CompletionCall::rpc_done() {
  {
    const std::lock_guard lock(mu_);
    rpc_done_ = true;
    finished_ = true;
  }
  front_.calls.remove(this);
  report_if_over();
}

void CompletionCall::report_if_over() {
  CallRecord record;
  {
    const std::lock_guard lock(mu_);
    if (reported_ || !rpc_done_ || !over()) return;
    reported_ = true;
    record_.code = error_.status.code();
    record_.message = error_.status.message();
    record_.total_seconds = seconds_between(arrival_, Clock::now());
    record_.messages = messages_;
    record = std::move(record_);
  }
  front_.metrics.call_ended(record);
  if (front_.log_requests) log_access(record);
}

}  // namespace engram::server

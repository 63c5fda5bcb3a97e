#include "tools/bench/server_facts.h"

#include <engram/v1/admin.grpc.pb.h>
#include <engram/v1/models.grpc.pb.h>
#include <engram/v1/tokenizer.grpc.pb.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <utility>

#include "tools/command.h"

namespace engram::tools::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAnswerTime = std::chrono::seconds(10);
constexpr auto kPoll = std::chrono::milliseconds(200);

// A server that does not answer at all is as good as none.
grpc::Status reachable(const grpc::Status& status) {
  if (status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) return status;
  return {grpc::StatusCode::UNAVAILABLE, "no answer in 10 s"};
}

template <typename Stub, typename Request, typename Response>
grpc::Status call(
    Stub* stub,
    grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
    const Request& request,
    Response* response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kAnswerTime);
  return reachable((stub->*method)(&context, request, response));
}

void add_layers(const v1::EngineNumbers& numbers, std::map<std::string, double>* counters) {
  for (const v1::EngramLayerNumbers& layer : numbers.layers()) {
    (*counters)["ngram_rows"] += static_cast<double>(layer.rows());
    (*counters)["ngram_unique_rows"] += static_cast<double>(layer.unique_rows());
    (*counters)["ngram_bytes"] += static_cast<double>(layer.bytes());
    if (layer.has_gather_seconds()) {
      (*counters)["ngram_gather_seconds"] += layer.gather_seconds();
    }
    if (layer.has_exposed_wait_seconds()) {
      (*counters)["ngram_exposed_wait_seconds"] += layer.exposed_wait_seconds();
    }
  }
  if (numbers.layers_size() > 0) (*counters)["ngram_hash_seconds"] = numbers.hash_seconds();
}

}  // namespace

ServerFacts::ServerFacts(std::string server)
    : server_(std::move(server)), channel_(connect(server_)) {}

grpc::Status ServerFacts::wait_until_ready(
    double seconds, bool patient, const std::atomic<bool>* interrupted) {
  const auto stub = v1::Admin::NewStub(channel_);
  const auto limit =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const Clock::time_point begin = Clock::now();
  bool told = false;
  while (!*interrupted) {
    v1::GetServerInfoResponse info;
    const grpc::Status status =
        call(stub.get(), &v1::Admin::Stub::GetServerInfo, v1::GetServerInfoRequest(), &info);
    const bool unreachable = status.error_code() == grpc::StatusCode::UNAVAILABLE;
    if (status.ok() && info.phase() == v1::PHASE_READY) return status;
    if (!status.ok() && !(unreachable && patient)) return status;
    if (status.ok() && info.phase() == v1::PHASE_DRAINING) {
      return {grpc::StatusCode::FAILED_PRECONDITION, server_ + " is shutting down"};
    }
    if (Clock::now() - begin >= limit) {
      if (unreachable) return status;
      return {grpc::StatusCode::DEADLINE_EXCEEDED, server_ + " is still loading"};
    }
    if (!told) {
      std::fprintf(
          stderr, "engram: waiting for %s, which %s\n", server_.c_str(),
          unreachable ? "does not answer yet" : "is loading its model");
    }
    told = true;
    std::this_thread::sleep_for(kPoll);
  }
  return {grpc::StatusCode::CANCELLED, "interrupted"};
}

grpc::Status ServerFacts::find_model(const std::string& name, ServedModel* model) {
  const auto stub = v1::Models::NewStub(channel_);
  v1::GetModelRequest request;
  if (!name.empty()) request.set_id(name);
  v1::Model found;
  const grpc::Status status = call(stub.get(), &v1::Models::Stub::Get, request, &found);
  if (!status.ok()) return status;
  model->id = name.empty() ? found.id() : name;
  model->max_model_len = static_cast<int64_t>(found.max_model_len());
  model->vocab_size = static_cast<uint32_t>(std::min(
      found.vocab_size(), found.has_tokenizer_size() ? found.tokenizer_size() : UINT32_MAX));
  if (found.has_bos_token_id()) {
    model->special.push_back(static_cast<uint32_t>(found.bos_token_id()));
  }
  for (const int32_t id : found.eos_token_ids()) {
    model->special.push_back(static_cast<uint32_t>(id));
  }
  return status;
}

grpc::Status ServerFacts::counters(std::map<std::string, double>* counters) {
  const auto stub = v1::Admin::NewStub(channel_);
  v1::GetServerInfoResponse info;
  const grpc::Status status =
      call(stub.get(), &v1::Admin::Stub::GetServerInfo, v1::GetServerInfoRequest(), &info);
  if (!status.ok()) return status;
  const v1::EngineNumbers& n = info.numbers();
  counters->clear();
  (*counters)["prompt_tokens"] = static_cast<double>(n.prompt_tokens());
  (*counters)["cached_tokens"] = static_cast<double>(n.cached_tokens());
  (*counters)["generation_tokens"] = static_cast<double>(n.generation_tokens());
  (*counters)["steps"] = static_cast<double>(n.steps());
  (*counters)["preemptions"] = static_cast<double>(n.preemptions());
  (*counters)["table_swaps"] = static_cast<double>(n.table_swaps());
  (*counters)["row_retries"] = static_cast<double>(n.row_retries());
  for (const auto& [reason, count] : n.finished()) {
    (*counters)["finished_" + reason] = static_cast<double>(count);
  }
  add_layers(n, counters);
  return status;
}

memory::Result<int64_t> ServerFacts::count_tokens(
    const std::string& model, const std::string& text) {
  const auto stub = v1::Tokenizer::NewStub(channel_);
  v1::TokenizeRequest request;
  request.set_model(model);
  request.set_text(text);
  request.set_add_special_tokens(false);
  v1::TokenizeResponse response;
  const grpc::Status status = call(stub.get(), &v1::Tokenizer::Stub::Tokenize, request, &response);
  if (!status.ok()) {
    return memory::Status(
        static_cast<memory::Code>(status.error_code()),
        "counting tokens with the server's tokenizer: " + status.error_message());
  }
  return static_cast<int64_t>(response.token_ids_size());
}

}  // namespace engram::tools::bench

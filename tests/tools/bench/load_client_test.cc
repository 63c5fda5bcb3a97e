// The load generator against a server in the same process: the records say what was, whatever is
// cancelled, slow, late, refused or interrupted, and every run ends.
#include "tools/bench/load_client.h"

#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace engram::tools::bench {
namespace {

constexpr uint32_t kRefused = 1;  // a prompt that begins with it

// A token at a time, each after as many microseconds as the prompt's second id says.
class Answers final : public v1::Completions::Service {
 public:
  grpc::Status StreamComplete(
      grpc::ServerContext* context,
      const v1::CompleteRequest* request,
      grpc::ServerWriter<v1::CompleteResponse>* writer) override {
    const auto& ids = request->token_ids().ids();
    if (ids[0] == kRefused) return {grpc::StatusCode::INVALID_ARGUMENT, "no such prompt"};
    const uint32_t tokens = request->stopping().max_tokens();
    v1::CompleteResponse message;
    for (uint32_t i = 0; i < tokens; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(ids[1]));
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
      message.Clear();
      v1::Choice* choice = message.add_choices();
      choice->add_token_ids(i);
      choice->set_text("ab");
      writer->Write(message);
    }
    message.Clear();
    message.mutable_usage()->set_prompt_tokens(static_cast<uint64_t>(ids.size()));
    message.mutable_usage()->set_completion_tokens(tokens);
    writer->Write(message);
    return grpc::Status::OK;
  }
};

class TestServer {
 public:
  TestServer() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    REQUIRE(port != 0);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~TestServer() { stop(); }
  void stop() { server_->Shutdown(std::chrono::system_clock::now()); }

  LoadClient connect(int connections) const {
    memory::Result<LoadClient> client = LoadClient::connect(address_, connections, 10);
    REQUIRE(client.ok());
    return std::move(client).value();
  }

 private:
  Answers service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

PlannedRequest request_of(double at_s, int64_t tokens, uint32_t token_us) {
  PlannedRequest request;
  request.at_s = at_s;
  request.prompt_ids = {7, token_us, 9};
  request.prompt_tokens = 3;
  request.max_tokens = tokens;
  return request;
}

// The most records that were in flight at once.
int64_t most_at_once(const std::vector<RequestRecord>& records) {
  std::vector<std::pair<double, int>> edges;
  for (const RequestRecord& record : records) {
    if (record.sent_s < 0) continue;
    edges.emplace_back(record.sent_s, 1);
    edges.emplace_back(record.done_s, -1);
  }
  std::sort(edges.begin(), edges.end());
  int64_t now = 0;
  int64_t most = 0;
  for (const auto& [at_s, change] : edges) most = std::max(most, now += change);
  return most;
}

void check_times(const PlannedRequest& planned, const RequestRecord& record) {
  CHECK(record.planned_s == planned.at_s);
  CHECK(record.ready_s >= record.planned_s);
  CHECK(record.sent_s >= record.ready_s);
  CHECK(record.done_s >= record.sent_s);
  double last_s = record.sent_s;
  for (const MessageTime& message : record.messages) {
    CHECK(message.at_s >= last_s);
    last_s = message.at_s;
  }
  CHECK(record.done_s >= last_s);
}

void check_record(const PlannedRequest& planned, const RequestRecord& record, double timeout_s) {
  CAPTURE(record.error, planned.cancel_after_s, planned.max_tokens);
  check_times(planned, record);
  const int64_t messages = static_cast<int64_t>(record.messages.size());
  CHECK(messages <= planned.max_tokens);
  if (planned.prompt_ids[0] == kRefused) {
    CHECK(record.outcome != Outcome::kCompleted);
    CHECK(messages == 0);
    return;
  }
  switch (record.outcome) {
    case Outcome::kCompleted:
      CHECK(record.output_tokens == planned.max_tokens);
      CHECK(messages == planned.max_tokens);
      CHECK(static_cast<int64_t>(record.text.size()) == 2 * planned.max_tokens);
      CHECK(record.prompt_tokens == 3);
      CHECK(record.bytes > 0);
      break;
    case Outcome::kCancelled:
      CHECK(planned.cancel_after_s >= 0);
      CHECK(record.done_s - record.sent_s >= planned.cancel_after_s);
      break;
    default:
      CHECK(timeout_s > 0);
      CHECK(record.error.rfind("DEADLINE_EXCEEDED", 0) == 0);
  }
}

std::vector<PlannedRequest> unruly_plan(std::mt19937& random, size_t count) {
  std::uniform_real_distribution<double> uniform;
  std::vector<PlannedRequest> plan;
  double at_s = 0;
  for (size_t i = 0; i < count; ++i) {
    at_s += 0.004 * uniform(random);
    plan.push_back(request_of(at_s, 1 + random() % 20, random() % 1000));
    if (random() % 5 == 0) plan.back().cancel_after_s = 0.02 * uniform(random);
    if (random() % 7 == 0) plan.back().cancel_after_s = 0;
    if (random() % 5 == 0) plan.back().read_pause_s = 0.004 * uniform(random);
    if (random() % 9 == 0) plan.back().prompt_ids[0] = kRefused;
  }
  return plan;
}

}  // namespace

TEST_CASE("load client: records say what was", "[bench]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TestServer server;
  for (int round = 0; round < 4; ++round) {
    const std::vector<PlannedRequest> plan = unruly_plan(random, 150);
    LoadOptions options;
    options.max_concurrency = round % 2 == 0 ? 0 : 1 + static_cast<int64_t>(random() % 10);
    options.request_timeout_s = round < 2 ? 0 : 0.02;
    options.probe_rate = 100;
    options.keep_text = true;
    LoadClient client = server.connect(1 + static_cast<int>(random() % 3));
    const LoadResult result = client.run(plan, {request_of(0, 1, 10)}, options);
    CAPTURE(round, options.max_concurrency);
    REQUIRE(result.requests.size() == plan.size());
    CHECK(!result.interrupted);
    CHECK(result.server_lost.empty());
    for (size_t i = 0; i < plan.size(); ++i) {
      CAPTURE(i);
      check_record(plan[i], result.requests[i], options.request_timeout_s);
      if (options.max_concurrency == 0) CHECK(result.requests[i].ready_s == plan[i].at_s);
    }
    if (options.max_concurrency > 0) {
      CHECK(most_at_once(result.requests) <= options.max_concurrency);
    }
    CHECK(!result.probes.empty());
    for (size_t i = 0; i < result.probes.size(); ++i) {
      const RequestRecord& probe = result.probes[i];
      CHECK(probe.planned_s == Approx(static_cast<double>(i + 1) / 100));
      CHECK(probe.sent_s >= probe.planned_s);
      CHECK(probe.outcome != Outcome::kNotSent);
    }
  }
}

TEST_CASE("load client: an interruption ends everything at once", "[bench]") {
  const uint32_t seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TestServer server;
  for (int round = 0; round < 4; ++round) {
    // Long answers, pauses and delays, and requests that are due in an hour.
    std::vector<PlannedRequest> plan;
    for (int i = 0; i < 20; ++i) plan.push_back(request_of(0, 100000, 200));
    for (int i = 0; i < 10; ++i) plan[random() % plan.size()].read_pause_s = 3600;
    for (int i = 0; i < 10; ++i) plan[random() % plan.size()].cancel_after_s = 3600;
    plan.push_back(request_of(3600, 1, 1));
    std::atomic<bool> interrupted{false};
    LoadOptions options;
    options.interrupted = &interrupted;
    options.max_concurrency = round % 2 == 0 ? 0 : 5;
    options.probe_rate = round < 2 ? 0 : 0.001;
    LoadClient client = server.connect(2);
    std::thread user([&interrupted, pause = random() % 100] {
      std::this_thread::sleep_for(std::chrono::milliseconds(pause));
      interrupted = true;
    });
    const LoadResult result = client.run(plan, {request_of(0, 1, 10)}, options);
    user.join();
    CHECK(result.interrupted);
    CHECK(result.requests.back().outcome == Outcome::kNotSent);
    for (size_t i = 0; i + 1 < plan.size(); ++i) {
      const RequestRecord& record = result.requests[i];
      CHECK(record.outcome == (record.sent_s < 0 ? Outcome::kNotSent : Outcome::kCancelled));
      if (record.outcome == Outcome::kCancelled) check_times(plan[i], record);
    }
  }
}

TEST_CASE("load client: a server that goes away ends the run", "[bench]") {
  TestServer server;
  std::vector<PlannedRequest> plan;
  for (int i = 0; i < 100; ++i) plan.push_back(request_of(0.01 * i, 5, 1000));
  plan.push_back(request_of(3600, 1, 1));
  LoadClient client = server.connect(2);
  std::thread end([&server] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    server.stop();
  });
  const LoadResult result = client.run(plan, {}, {});
  end.join();
  CHECK(!result.server_lost.empty());
  CHECK(result.requests.front().outcome == Outcome::kCompleted);
  CHECK(result.requests[99].outcome == Outcome::kFailed);
  CHECK(result.requests[99].error.rfind("UNAVAILABLE", 0) == 0);
  CHECK(result.requests.back().outcome == Outcome::kNotSent);
}

TEST_CASE("load client: nothing listens", "[bench]") {
  const memory::Result<LoadClient> client = LoadClient::connect("127.0.0.1:1", 1, 0.3);
  CHECK(client.status().code() == memory::Code::kUnavailable);
}

}  // namespace engram::tools::bench

// What the front end costs, with the simulator instead of a model: messages per second and the
// server's CPU time for each, and the latency that the way from the engine to the client adds, in a
// row and after a pause. Starts engramd itself; the client shares the machine with it.
//
//   frontend_bench --engramd FILE [--smoke] [--only stream|row|idle]
#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/bench/idle_latency.h"
#include "tests/bench/latency.h"
#include "tests/bench/server_process.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return milliseconds_since(begin) * 1e-3;
}

// Counts calls that are still going on.
class Pending {
 public:
  void add() {
    const std::lock_guard lock(mu_);
    ++count_;
  }
  void done() {
    const std::lock_guard lock(mu_);
    if (--count_ == 0) zero_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mu_);
    zero_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mu_;
  std::condition_variable zero_;
  int64_t count_ = 0;  // guarded by mu_
};

// A stream that counts what comes and the times between.
class Reader : public grpc::ClientReadReactor<v1::CompleteResponse> {
 public:
  Reader(v1::Completions::Stub* stub, const v1::CompleteRequest& request, Pending* pending)
      : request_(request), pending_(pending) {
    pending->add();
    stub->async()->StreamComplete(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    const Clock::time_point now = Clock::now();
    if (messages > 0) {
      gaps_ms.push_back(std::chrono::duration<double, std::milli>(now - last_).count());
    }
    last_ = now;
    ++messages;
    for (const v1::Choice& choice : message_.choices()) tokens += choice.token_ids_size();
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) fail(status.error_message());
    pending_->done();
  }

  int64_t messages = 0;
  int64_t tokens = 0;
  std::vector<double> gaps_ms;

 private:
  grpc::ClientContext context_;
  const v1::CompleteRequest request_;
  v1::CompleteResponse message_;
  Pending* pending_;
  Clock::time_point last_;
};

struct Load {
  int streams;
  int connections;
  int64_t tokens;  // per stream
  double step_ms;
};

void print_throughput(const std::string& engramd, const Load& load) {
  ServerProcess server(engramd, {"--fake-step-ms=" + std::to_string(load.step_ms)});
  std::vector<std::unique_ptr<v1::Completions::Stub>> stubs;
  for (int i = 0; i < load.connections; ++i) {
    stubs.push_back(v1::Completions::NewStub(server.connect()));
    grpc::ClientContext context;
    v1::CompleteResponse response;
    if (!stubs.back()->Complete(&context, request_of(1), &response).ok()) fail("no answer");
  }
  Pending pending;
  const double cpu = server.cpu_seconds();
  const Clock::time_point begin = Clock::now();
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < load.streams; ++i) {
    v1::Completions::Stub* stub = stubs[static_cast<size_t>(i % load.connections)].get();
    readers.push_back(std::make_unique<Reader>(stub, request_of(load.tokens), &pending));
  }
  pending.wait();
  const double taken = seconds_since(begin);
  const double used = server.cpu_seconds() - cpu;
  double messages = 0;
  double tokens = 0;
  std::vector<double> gaps;
  for (const std::unique_ptr<Reader>& reader : readers) {
    messages += static_cast<double>(reader->messages);
    tokens += static_cast<double>(reader->tokens);
    gaps.insert(gaps.end(), reader->gaps_ms.begin(), reader->gaps_ms.end());
  }
  const double wanted = static_cast<double>(load.streams) * static_cast<double>(load.tokens);
  if (tokens != wanted) fail("tokens were lost or doubled");
  std::printf(
      "stream  %4d streams %3d connections  step %5.2f ms  %8.0f messages/s  %9.0f tokens/s  "
      "%5.2f tokens/message  %5.2f us server CPU/message  gap p50 %.2f p99 %.2f ms\n",
      load.streams, load.connections, load.step_ms, messages / taken, tokens / taken,
      tokens / messages, used / messages * 1e6, quantile(gaps, 0.5), quantile(gaps, 0.99));
  std::fflush(stdout);
}

void print_calls_in_a_row(const std::string& engramd, int calls) {
  const ServerProcess server(engramd, {});
  const auto stub = v1::Completions::NewStub(server.connect());
  std::vector<double> ms;
  for (int i = 0; i < 20; ++i) time_stream(stub.get());
  for (int i = 0; i < calls; ++i) ms.push_back(time_stream(stub.get()));
  print_latency("one call after another, gRPC C++ client", ms);
}

void print_streams(const std::string& engramd, bool smoke) {
  const int64_t scale = smoke ? 50 : 1;
  const std::vector<Load> loads = {{1, 1, 20000, 0.02}, {64, 1, 4000, 0.5},   {64, 4, 4000, 0.5},
                                   {256, 4, 2000, 2.0}, {1024, 16, 500, 8.0}, {64, 1, 2000, 2.0}};
  for (Load load : loads) {
    load.tokens = std::max<int64_t>(10, load.tokens / scale);
    print_throughput(engramd, load);
  }
}

int run(int argc, char** argv) {
  const std::string usage =
      "usage: frontend_bench --engramd FILE [--smoke] [--only stream|row|idle]";
  std::string engramd;
  std::string only;
  bool smoke = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--smoke") {
      smoke = true;
    } else if (word == "--engramd" && i + 1 < argc) {
      engramd = argv[++i];
    } else if (word == "--only" && i + 1 < argc) {
      only = argv[++i];
    } else {
      fail(usage);
    }
  }
  if (engramd.empty()) fail(usage);
  if (!only.empty() && only != "stream" && only != "row" && only != "idle") fail(usage);
  // First, as long as gRPC has no threads here: the idle clients begin with a fork.
  if (only.empty() || only == "idle") measure_idle_latency(engramd, smoke);
  if (only.empty() || only == "row") print_calls_in_a_row(engramd, smoke ? 20 : 2000);
  if (only.empty() || only == "stream") print_streams(engramd, smoke);
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

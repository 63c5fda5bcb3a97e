// What the load generator of `engram bench serve` can take, with the simulator on the same cores:
// messages per second and its CPU time for each, and how far its sends lag behind the plan while it
// receives. Starts engramd itself.
//
//   load_client_bench --engramd FILE [--smoke] [--connections N]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/bench/server_process.h"
#include "tools/bench/arrivals.h"
#include "tools/bench/load_client.h"
#include "tools/bench/statistics.h"

namespace engram::bench {
namespace {

using tools::bench::ArrivalOptions;
using tools::bench::LoadClient;
using tools::bench::LoadResult;
using tools::bench::Outcome;
using tools::bench::PlannedRequest;
using tools::bench::quantile;
using tools::bench::RequestRecord;

struct Load {
  const char* name;
  int64_t requests;
  int64_t tokens;  // per request
  double rate;     // requests per second, Poisson; 0: all at once
  double step_ms;
};

std::vector<PlannedRequest> plan_of(const Load& load) {
  std::vector<PlannedRequest> plan(static_cast<size_t>(load.requests));
  for (PlannedRequest& request : plan) {
    request.prompt_ids = {1, 2, 3};
    request.max_tokens = load.tokens;
    request.ignore_eos = true;
  }
  ArrivalOptions arrivals;
  if (load.rate > 0) arrivals.request_rate = load.rate;
  set_arrivals(arrivals, &plan);
  return plan;
}

void print_result(const Load& load, int connections, const LoadResult& result, double server_cpu) {
  double messages = 0;
  int64_t tokens = 0;
  double first_s = result.duration_s;
  std::vector<double> lags_us;
  for (const RequestRecord& record : result.requests) {
    if (record.outcome != Outcome::kCompleted) fail("a request failed: " + record.error);
    messages += static_cast<double>(record.messages.size());
    for (const tools::bench::MessageTime& message : record.messages) tokens += message.tokens;
    lags_us.push_back(1e6 * (record.sent_s - record.ready_s));
    first_s = std::min(first_s, record.sent_s);
  }
  if (tokens != load.requests * load.tokens) fail("tokens were lost or doubled");
  const double taken = result.duration_s - first_s;
  std::printf(
      "%-10s %5lld requests of %5lld messages, %d connections, step %.2f ms: %8.0f messages/s  "
      "client %5.2f server %5.2f us CPU/message  lag p50 %.0f p99 %.0f max %.0f us%s\n",
      load.name, static_cast<long long>(load.requests), static_cast<long long>(load.tokens),
      connections, load.step_ms, messages / taken, result.client_cpu_s / messages * 1e6,
      server_cpu / messages * 1e6, quantile(lags_us, 0.5), quantile(lags_us, 0.99),
      quantile(lags_us, 1), result.priority ? "" : "  (no priority for the sender)");
  std::fflush(stdout);
}

void measure(const std::string& engramd, const Load& load, int connections) {
  const ServerProcess server(engramd, {"--fake-step-ms=" + std::to_string(load.step_ms)});
  memory::Result<LoadClient> client =
      LoadClient::connect("127.0.0.1:" + std::to_string(server.port()), connections, 10);
  if (!client.ok()) fail(client.status().to_string());
  const double cpu = server.cpu_seconds();
  const LoadResult result = client.value().run(plan_of(load), {}, {});
  print_result(load, connections, result, server.cpu_seconds() - cpu);
}

int run(int argc, char** argv) {
  std::string engramd;
  bool smoke = false;
  std::vector<int> connections = {1, 4};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--smoke") {
      smoke = true;
    } else if (word == "--engramd" && i + 1 < argc) {
      engramd = argv[++i];
    } else if (word == "--connections" && i + 1 < argc) {
      connections = {std::max(1, std::atoi(argv[++i]))};
    } else {
      engramd.clear();
      break;
    }
  }
  if (engramd.empty()) {
    fail("usage: load_client_bench --engramd FILE [--smoke] [--connections N]");
  }
  // The simulator can make more than any client takes; a client that is slower gets fewer, larger
  // messages.
  Load full = {"full speed", 64, 8000, 0, 0.5};
  Load paced = {"paced", 1600, 200, 160, 2};
  if (smoke) {
    full.tokens = 100;
    paced.requests = 30;
  }
  for (const int count : connections) {
    measure(engramd, full, count);
    measure(engramd, paced, count);
  }
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

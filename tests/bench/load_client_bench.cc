// What the load generator of `engram bench serve` can take, with the simulator on the same cores:
// messages per second and its CPU time for each, and how far its sends lag behind the plan while it
// receives. Beside it a bare thread waits for moments of the same kind and does nothing else: what
// it lags is the machine's, and no load generator lags less. Starts engramd itself.
//
//   load_client_bench --engramd FILE [--smoke] [--connections N] [--rounds N] [--load full|paced]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/server_process.h"
#include "tools/bench/arrivals.h"
#include "tools/bench/load_client.h"
#include "tools/bench/pacer.h"
#include "tools/bench/statistics.h"

namespace engram::bench {
namespace {

using tools::bench::ArrivalOptions;
using tools::bench::LoadClient;
using tools::bench::LoadResult;
using tools::bench::Outcome;
using tools::bench::Pacer;
using tools::bench::PlannedRequest;
using tools::bench::quantile;
using tools::bench::RequestRecord;
using tools::bench::RunClock;

struct Load {
  const char* name;
  int64_t requests;
  int64_t tokens;  // per request
  double rate;     // requests per second, Poisson; 0: all at once
  double step_ms;
};

struct Round {
  double messages_per_s = 0;
  double client_us = 0;  // CPU time per message
  double server_us = 0;
  std::vector<double> lags_us;
  std::vector<double> bare_us;  // of the bare thread
  double stolen_percent = 0;    // of all cores' time, by the host of a virtual machine
  bool priority = false;
};

std::vector<PlannedRequest> plan_of(const Load& load, uint64_t seed) {
  std::vector<PlannedRequest> plan(static_cast<size_t>(load.requests));
  for (PlannedRequest& request : plan) {
    request.prompt_ids = {1, 2, 3};
    request.max_tokens = load.tokens;
    request.ignore_eos = true;
  }
  ArrivalOptions arrivals;
  arrivals.seed = seed;
  if (load.rate > 0) arrivals.request_rate = load.rate;
  set_arrivals(arrivals, &plan);
  return plan;
}

// Waits for the moments of a plan on a thread of its own, as the sending thread does, till it ends.
class BareThread {
 public:
  explicit BareThread(std::vector<PlannedRequest> plan)
      : plan_(std::move(plan)), thread_([this] { wait(); }) {}

  std::vector<double> lags_us() {
    stop_ = true;
    thread_.join();
    return lags_us_;
  }

 private:
  void wait() {
    const Pacer pacer(&stop_);
    lags_us_.reserve(plan_.size());
    const RunClock::time_point zero = RunClock::now();
    for (const PlannedRequest& request : plan_) {
      const RunClock::time_point moment = zero + std::chrono::duration_cast<RunClock::duration>(
                                                     std::chrono::duration<double>(request.at_s));
      if (!pacer.wait_until(moment)) return;
      lags_us_.push_back(
          std::chrono::duration<double, std::micro>(RunClock::now() - moment).count());
    }
  }

  const std::vector<PlannedRequest> plan_;
  std::atomic<bool> stop_{false};
  std::vector<double> lags_us_;
  std::thread thread_;
};

// Ticks since the machine started: all of them, and those the host took.
struct Ticks {
  double all = 0;
  double stolen = 0;
};

Ticks read_ticks() {
  std::ifstream file("/proc/stat");
  std::string name;
  file >> name;
  Ticks ticks;
  // user nice system idle iowait irq softirq steal
  for (int i = 0; i < 8; ++i) {
    double value = 0;
    file >> value;
    ticks.all += value;
    if (i == 7) ticks.stolen = value;
  }
  return ticks;
}

Round summarize(const Load& load, const LoadResult& result, double server_cpu) {
  Round round;
  double messages = 0;
  int64_t tokens = 0;
  double first_s = result.duration_s;
  for (const RequestRecord& record : result.requests) {
    if (record.outcome != Outcome::kCompleted) fail("a request failed: " + record.error);
    messages += static_cast<double>(record.messages.size());
    for (const tools::bench::MessageTime& message : record.messages) tokens += message.tokens;
    round.lags_us.push_back(1e6 * (record.sent_s - record.ready_s));
    first_s = std::min(first_s, record.sent_s);
  }
  if (tokens != load.requests * load.tokens) fail("tokens were lost or doubled");
  round.messages_per_s = messages / (result.duration_s - first_s);
  round.client_us = result.client_cpu_s / messages * 1e6;
  round.server_us = server_cpu / messages * 1e6;
  round.priority = result.priority;
  return round;
}

void print_round(const Load& load, int connections, const Round& round) {
  std::printf(
      "%-10s %5lld requests of %5lld messages, %d connections, step %.2f ms: %8.0f messages/s  "
      "client %5.2f server %5.2f us CPU/message",
      load.name, static_cast<long long>(load.requests), static_cast<long long>(load.tokens),
      connections, load.step_ms, round.messages_per_s, round.client_us, round.server_us);
  const auto print_lags = [](const char* of, const std::vector<double>& us) {
    std::printf(
        "  %s p50 %.0f p99 %.0f max %.0f us", of, quantile(us, 0.5), quantile(us, 0.99),
        quantile(us, 1));
  };
  // All at once lags by the time that sending takes.
  if (load.rate > 0) {
    print_lags("lag", round.lags_us);
    print_lags("bare thread", round.bare_us);
  }
  std::printf(
      "  stolen %.1f %%%s\n", round.stolen_percent,
      round.priority ? "" : "  (no priority for the sender)");
  std::fflush(stdout);
}

Round measure(const std::string& engramd, const Load& load, int connections, uint64_t seed) {
  const ServerProcess server(engramd, {"--fake-step-ms=" + std::to_string(load.step_ms)});
  memory::Result<LoadClient> client =
      LoadClient::connect("127.0.0.1:" + std::to_string(server.port()), connections, 10);
  if (!client.ok()) fail(client.status().to_string());
  const std::vector<PlannedRequest> plan = plan_of(load, seed);
  // Moments of its own, or the two would wait for each other.
  std::vector<PlannedRequest> moments;
  if (load.rate > 0) moments = plan_of(load, seed + 1000);
  const Ticks before = read_ticks();
  const double cpu = server.cpu_seconds();
  BareThread bare(std::move(moments));
  const LoadResult result = client.value().run(plan, {}, {});
  const double server_cpu = server.cpu_seconds() - cpu;
  const std::vector<double> bare_us = bare.lags_us();
  const Ticks after = read_ticks();
  Round round = summarize(load, result, server_cpu);
  round.bare_us = bare_us;
  if (after.all > before.all) {
    round.stolen_percent = 100 * (after.stolen - before.stolen) / (after.all - before.all);
  }
  print_round(load, connections, round);
  return round;
}

// What all rounds of a load say together.
void print_rounds(const Load& load, int connections, const std::vector<Round>& rounds) {
  std::vector<double> rates;
  std::vector<double> p99s;
  std::vector<double> bare_p99s;
  std::vector<double> all;
  std::vector<double> bare_all;
  int within = 0;
  for (const Round& r : rounds) {
    rates.push_back(r.messages_per_s);
    p99s.push_back(quantile(r.lags_us, 0.99));
    within += p99s.back() <= 1000 ? 1 : 0;
    all.insert(all.end(), r.lags_us.begin(), r.lags_us.end());
    if (load.rate > 0) bare_p99s.push_back(quantile(r.bare_us, 0.99));
    bare_all.insert(bare_all.end(), r.bare_us.begin(), r.bare_us.end());
  }
  std::printf(
      "%-10s %zu rounds, %d connections: %.0f messages/s (median; %.0f to %.0f)\n", load.name,
      rounds.size(), connections, quantile(rates, 0.5), quantile(rates, 0), quantile(rates, 1));
  if (load.rate <= 0) return;
  std::printf(
      "           lag p99 of a round: median %.0f, worst %.0f us, %d of %zu rounds within 1 ms; of "
      "all %zu sends p50 %.0f p99 %.0f max %.0f us\n",
      quantile(p99s, 0.5), quantile(p99s, 1), within, rounds.size(), all.size(), quantile(all, 0.5),
      quantile(all, 0.99), quantile(all, 1));
  std::printf(
      "           bare thread: median %.0f, worst %.0f us; of all %zu moments p50 %.0f p99 %.0f "
      "max "
      "%.0f us; p99 of sends / of bare moments: %.2f\n",
      quantile(bare_p99s, 0.5), quantile(bare_p99s, 1), bare_all.size(), quantile(bare_all, 0.5),
      quantile(bare_all, 0.99), quantile(bare_all, 1),
      quantile(all, 0.99) / std::max(1e-3, quantile(bare_all, 0.99)));
  std::fflush(stdout);
}

struct Arguments {
  std::string engramd;
  std::string load;  // empty: both
  bool smoke = false;
  int rounds = 3;
  std::vector<int> connections = {1, 4};
};

bool read_arguments(int argc, char** argv, Arguments* a) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool more = i + 1 < argc;
    if (word == "--smoke") {
      a->smoke = true;
    } else if (word == "--engramd" && more) {
      a->engramd = argv[++i];
    } else if (word == "--connections" && more) {
      a->connections = {std::max(1, std::atoi(argv[++i]))};
    } else if (word == "--rounds" && more) {
      a->rounds = std::max(1, std::atoi(argv[++i]));
    } else if (word == "--load" && more) {
      a->load = argv[++i];
      if (a->load != "full" && a->load != "paced") return false;
    } else {
      return false;
    }
  }
  if (a->smoke) a->rounds = 1;
  return !a->engramd.empty();
}

int run(int argc, char** argv) {
  Arguments a;
  if (!read_arguments(argc, argv, &a)) {
    fail(
        "usage: load_client_bench --engramd FILE [--smoke] [--connections N] [--rounds N] "
        "[--load full|paced]");
  }
  // The simulator can make more than any client takes; a client that is slower gets fewer, larger
  // messages.
  Load full = {"full speed", 64, 8000, 0, 0.5};
  Load paced = {"paced", 1600, 200, 160, 2};
  if (a.smoke) {
    full.tokens = 100;
    paced.requests = 30;
  }
  for (const int connections : a.connections) {
    for (const Load& load : {full, paced}) {
      if (!a.load.empty() && a.load[0] != load.name[0]) continue;
      std::vector<Round> rounds;
      for (int i = 0; i < a.rounds; ++i) {
        rounds.push_back(measure(a.engramd, load, connections, static_cast<uint64_t>(i)));
      }
      print_rounds(load, connections, rounds);
    }
  }
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

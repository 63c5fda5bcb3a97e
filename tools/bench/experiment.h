// The experiment behind `engram bench overhead`: arms that differ in how n-gram rows are had are
// measured in turns, round after round, on the same requests, and compared round by round, so that
// what a round did to all of them cancels. One arm is measured twice a round: how far the two are
// apart says whether the run can be believed. Arms that must answer alike are held to it, token by
// token.
//
// Nothing here knows an engine: an Arm may be simulated. One thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/records.h"
#include "tools/bench/statistics.h"
#include "tools/bench/workload.h"

namespace engram::tools::bench {

// One measurement. 0: there was nothing to measure (one token has no TPOT).
struct Sample {
  double output_throughput = 0;  // tokens/s, from the first request sent to the last token
  double total_throughput = 0;   // with the prompts' tokens
  double ttft_ms = 0;            // median of the requests
  double ttft_p99_ms = 0;
  double tpot_ms = 0;  // (last token - first) / (tokens - 1), median of the requests
  double tpot_p99_ms = 0;
  double step_ms = 0;  // median gap between a request's messages

  std::vector<double> step_seconds;  // of the engine's steps
  std::vector<double> wait_seconds;  // for rows, of the same steps; empty: not timed
  int64_t rows = 0;                  // fetched, over all Engram layers
  int64_t unique_rows = 0;           // distinct within each fetch
  int64_t bytes = 0;                 // as stored
  double gather_seconds = 0;         // 0: not timed

  std::vector<std::vector<int32_t>> tokens;  // of each request, in the order of the plan
};

// Fills the first block from the records of one measurement, in the order of the plan.
void read_records(const Workload& workload, std::span<const RequestRecord> records, Sample* sample);

class Arm {
 public:
  virtual ~Arm() = default;
  // Serves plan_requests(workload, seed). CANCELLED when it was stopped meanwhile.
  virtual memory::Result<Sample> measure(const Workload& workload, uint64_t seed) = 0;
};

struct ArmEntry {
  std::string key;   // "D"
  std::string name;  // "host memory, prefetched"
  // Its tokens are those of every other arm that says so.
  bool same_tokens = false;
  Arm* arm = nullptr;
};

// Arms that are compared with each other.
struct ArmGroup {
  std::vector<ArmEntry> arms;
  std::function<memory::Status()> before_round = {};  // may be empty; its error ends the run
};

struct ExperimentOptions {
  int rounds = 11;
  int warm_ups = 1;  // rounds before them that are not counted
  uint64_t seed = 0;
  double quiet_limit_percent = 10;
  std::string twice = "D";  // the arm measured twice; without it the first one
  const std::atomic<bool>* stop = nullptr;
  std::function<void(int done, int total)> on_measured;  // measurements
};

struct ArmRounds {
  std::string key;
  std::string name;
  uint64_t token_hash = 0;      // FNV-1a of all rounds' tokens
  std::vector<Sample> samples;  // per round; without tokens
};

// All rounds of one workload. Rounds that were not finished are not in it.
struct PointResult {
  Workload workload;
  std::vector<ArmRounds> arms;
  Quietness quiet;
  bool interrupted = false;

  const ArmRounds* find(const std::string& key) const;  // null: no such arm
  int rounds() const { return arms.empty() ? 0 : static_cast<int>(arms[0].samples.size()); }
};

// One result per group. The groups' rounds take turns, so that what minutes do to the machine, they
// do to all groups. The first error of an arm; DATA_LOSS names arm, request and position of a token
// that differs.
memory::Result<std::vector<PointResult>> run_experiments(
    std::span<const ArmGroup> groups, const Workload& workload, const ExperimentOptions& options);
// Of one group, with nothing before its rounds.
memory::Result<PointResult> run_experiment(
    std::span<const ArmEntry> arms, const Workload& workload, const ExperimentOptions& options);

inline constexpr const char* kMetrics[] = {
    "output_throughput", "total_throughput", "ttft_ms", "ttft_p99_ms",
    "tpot_ms",           "tpot_p99_ms",      "step_ms"};
double metric_of(const Sample& sample, const std::string& metric);
std::vector<double> metric_of(const ArmRounds& arm, const std::string& metric);

// How many percent slower `arm` is than `base`; no rounds: the metric was not measured, or in fewer
// rounds than an interval needs.
Estimate overhead_of(const ArmRounds& arm, const ArmRounds& base, const std::string& metric);

// Where the cost of D goes, in percent of N's time by the workload's metric; the parts add up to
// the overhead of D over N. A part that needs an arm that was not there is absent.
struct CostSplit {
  bool has_projections = false;  // Z over N
  double projections_and_gate = 0;
  bool has_wait = false;
  double exposed_wait = 0;  // mean wait of D's steps, where timed, over the mean step of N
  bool has_interference = false;
  double interference = 0;  // what is left: hashing, and the gather's traffic and threads
};
CostSplit split_cost(const PointResult& point);

}  // namespace engram::tools::bench

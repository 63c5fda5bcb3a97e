// What `engram bench serve` says about a run: the block on the console and the JSON in the words of
// `vllm bench serve`, so that scripts made for it read ours, and a CSV with a line per request.
// Pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/arrivals.h"
#include "tools/bench/records.h"
#include "tools/bench/serve_metrics.h"

namespace engram::tools::bench {

// What was run, as far as the report repeats it.
struct ServeRun {
  int64_t started_at = 0;  // seconds since 1970
  std::string backend = "engram";
  std::string model_id;
  std::string tokenizer_id;  // empty: null
  std::string label;         // empty: null
  int64_t num_prompts = 0;
  int64_t max_concurrency = 0;  // 0: no limit, null
  ArrivalOptions arrivals = {};
  bool timed_trace = false;  // the times are a trace's: no rate was asked for
  std::vector<RateChange> rate_changes = {};
  std::vector<std::pair<std::string, std::string>> metadata = {};  // --metadata k=v
  Objectives objectives = {};
  // Of the console; the JSON has them all, and report_percentiles().
  std::vector<double> percentiles = {99};
  std::vector<std::string> percentile_metrics = {"ttft", "tpot", "itl"};
  double probe_rate = 0;
  std::vector<RequestRecord> probes = {};            // requests of one token beside the load
  std::map<std::string, double> server_before = {};  // the server's own counters
  std::map<std::string, double> server_after = {};
  std::string engram_version;
  std::string command;
  std::map<std::string, std::string> dataset = {};  // its name and flags
  bool interrupted = false;
  std::string server_lost;  // why the run was given up; empty: it was not
  bool save_detailed = false;
};

// ttft, tpot, itl, e2el, client_queue_time and e2el_including_client_queue, or some of them, parted
// by commas; INVALID_ARGUMENT for other names.
memory::Result<std::vector<std::string>> parse_percentile_metrics(const std::string& list);

// "key=value"; INVALID_ARGUMENT without a key or '='.
memory::Result<std::pair<std::string, std::string>> parse_metadata(const std::string& word);

// What serve_metrics() is to be asked for, so that every JSON has 50, 90, 95 and 99 beside the
// percentiles of the console. Ascending.
std::vector<double> report_percentiles(std::span<const double> console);

// The block, ending in a newline, with a section of ours about the client before its last line and,
// below it, what makes the run doubtful. A percentile that `metrics` does not hold is left out.
std::string console_block(const ServeRun& run, const ServeMetrics& metrics);

// One JSON object on one line, without a newline. The keys and types are those of vLLM's
// benchmarks/serve.py, ours begin with x_. Figures of theirs that nothing was measured for are 0,
// as there (x_counts tells how many values each has); ours are null. The arrays of save_detailed
// hold the requests that were sent, in the order of the plan; times in seconds since the start.
std::string result_json(
    const ServeRun& run, const ServeMetrics& metrics, std::span<const RequestRecord> records);

// A header and one line per request of the plan; times in seconds since the start, what did not
// happen is empty. Ends in a newline.
std::string records_csv(std::span<const RequestRecord> records);

// "LABEL-8.0qps-concurrency4-MODEL-20261122-131439.json", as vLLM names its results.
std::string result_file_name(const ServeRun& run);

// The distributions by the names that flags and keys use, in the order of the report. Those of the
// client's queue are there with a limit on concurrency only, and e2el_including_client_queue only
// with a plan of times beside it, as in vLLM.
struct NamedMetric {
  const char* name;    // "ttft"
  const char* label;   // "TTFT"
  const char* header;  // "Time to First Token"
  const Distribution* values;
};
std::vector<NamedMetric> named_metrics(const ServeRun& run, const ServeMetrics& metrics);

std::string percentile_word(double percent);                 // "99", "99.9"
std::string local_time(int64_t unix_s, const char* format);  // strftime's

}  // namespace engram::tools::bench

// The flags of `engram bench serve`, with the names of `vllm bench serve` where it has them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/arrivals.h"
#include "tools/bench/dataset.h"
#include "tools/bench/load_client.h"
#include "tools/bench/load_plan.h"
#include "tools/bench/serve_metrics.h"

namespace CLI {
class App;
}

namespace engram::tools::bench {

struct ServeFlags {
  // As on the command line.
  std::string server;
  std::string model;
  int connections = 1;
  double ready_check_timeout_s = 600;
  double request_timeout_s = 0;
  std::string ramp_up_strategy;
  double trace_speed = 1;
  int64_t max_concurrency = 0;
  int64_t num_warmups = 0;
  double probe_rate = 0;
  Disturbances disturbances = {0, 0.5, 0, 0.1};
  std::string request_id_prefix;
  float temperature = 0;
  float top_p = 1;
  int32_t top_k = 0;
  float min_p = 0;
  std::string percentile_metrics = "ttft,tpot,itl";
  std::string metric_percentiles = "99";
  std::vector<std::string> goodput;
  bool save_result = false;
  bool save_detailed = false;
  bool append_result = false;
  bool save_csv = false;
  std::string result_dir;
  std::string result_filename;
  std::vector<std::string> metadata_words;
  std::string label;
  bool no_progress = false;

  // Read from them by check().
  ArrivalOptions arrivals;
  DatasetOptions dataset;
  LoadSampling sampling;
  Objectives objectives;
  std::vector<double> percentiles;
  std::vector<std::string> shown_metrics;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::map<std::string, std::string> dataset_words;  // its flags that were given
  bool patient = false;                              // waits for a server that does not answer yet
};

void add_serve_flags(CLI::App& command, ServeFlags* flags);

// Of the parsed command: what the flags mean together. INVALID_ARGUMENT says which cannot be.
memory::Status check_serve_flags(const CLI::App& command, ServeFlags* flags);

}  // namespace engram::tools::bench

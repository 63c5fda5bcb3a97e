// What `engram bench throughput` and `latency` found: JSON with the keys of vLLM's commands of the
// same names, ours behind x_, and text for people. A figure that was not measured is null and "-".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/bench/engine_work.h"
#include "tools/bench/overhead_report.h"
#include "tools/bench/records.h"

namespace engram::tools::bench {

// What a run was, whatever it found.
struct InprocFacts {
  std::string engram_version;
  std::string date;
  std::string command;
  std::string label;
  MachineFacts machine;
  ModelFacts model;
  std::string table_placement;  // empty: no tables
  std::string load_format;
  std::string dtype;           // of activations, as asked for
  std::string kv_cache_dtype;  // of keys and values, as asked for
  std::string table_codec;     // empty: no tables
  std::string ngram_fetch;
  int threads = 0;
  int64_t max_num_seqs = 0;
  int64_t max_num_batched_tokens = 0;
  int64_t kv_pages = 0;
  int64_t page_tokens = 0;
  uint64_t seed = 0;
  float temperature = 0;
  std::string requests;  // "random: 100 requests, ..."
  MachinePeaks peaks;
};

struct ThroughputResult {
  double seconds = 0;
  int64_t asked = 0;      // requests
  int64_t completed = 0;  // of them
  // Of completed requests, and of those that were cancelled what they got.
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  EngineWork work;
  bool interrupted = false;
};
ThroughputResult count_throughput(
    const std::vector<RequestRecord>& records, double seconds, EngineWork work);

struct LatencyResult {
  int64_t batch_size = 0;
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t warm_ups = 0;
  int64_t asked = 0;                  // iterations
  std::vector<double> latencies;      // seconds, per iteration: first request sent to last token
  std::vector<double> ttft_ms;        // median of the batch, per iteration
  std::vector<double> worst_ttft_ms;  // the last of the batch
  std::vector<double> tpot_ms;        // median of the batch; none for answers of one token
  EngineWork work;                    // of all iterations
  bool interrupted = false;
};

// Two spaces of indentation, a line at its end.
std::string throughput_json(const InprocFacts& facts, const ThroughputResult& result);
std::string latency_json(const InprocFacts& facts, const LatencyResult& result);

// The first lines are those of vLLM.
std::string throughput_text(const InprocFacts& facts, const ThroughputResult& result);
std::string latency_text(const InprocFacts& facts, const LatencyResult& result);

}  // namespace engram::tools::bench

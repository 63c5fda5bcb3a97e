// Results of load runs and experiments, read back from their files: those of `engram bench serve`
// and `vllm bench serve` (--save-result, --save-detailed, --append-result), `engram bench overhead`
// and `engram bench paper`. Nobody vouches for a file: whatever it holds, the outcome is a value or
// a Status that names file, key, what was expected and what was found.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"

namespace engram::tools::bench {

struct Setting {
  std::string name;
  std::string text;
  bool operator==(const Setting&) const = default;
};

struct Metric {
  std::string name;
  std::optional<double> value;  // none: not measured
};

// One entry per request in each list, or none at all; NaN where a request has no such value.
struct ServeRequests {
  std::vector<double> start_s;  // since the first of them
  std::vector<double> ttft_s;
  std::vector<double> latency_s;
  std::vector<std::vector<double>> itl_s;
  std::vector<double> input_tokens;
  std::vector<double> output_tokens;
  size_t size() const { return ttft_s.size(); }
};

struct ServeResult {
  std::string file;
  std::string date;
  std::string label;
  std::string model;
  double request_rate = 0;  // infinite: all at once
  std::optional<double> max_concurrency;
  std::vector<Setting> settings;
  std::vector<Metric> metrics;
  ServeRequests requests;
  // Why its figures are not to be taken at face value, in sentences.
  std::vector<std::string> warnings;

  std::optional<double> metric(std::string_view name) const;
};

struct RoundSamples {
  std::string metric;  // "output_throughput"
  std::optional<double> median;
  std::vector<double> samples;  // one per round; NaN: that round has none
};

struct ExposedWait {
  std::optional<double> p50_us;
  std::optional<double> p99_us;
  std::optional<double> max_us;
  struct Count {
    double upper_us = 0;
    double count = 0;
  };
  std::vector<Count> histogram;  // ascending
};

struct ArmResult {
  std::string key;   // "D"
  std::string name;  // "host, prefetch"
  std::vector<RoundSamples> rates;
  ExposedWait wait;
  std::vector<Metric> amounts;  // rows, bytes, GB/s
  std::string token_hash;

  const RoundSamples* rate(std::string_view metric) const;
};

struct OverheadComparison {
  std::string arm;
  std::string baseline;
  std::string metric;
  std::optional<double> percent;
  std::optional<double> low;
  std::optional<double> high;
  std::string text;
};

// Of one sequence; low == high where all have the same length.
struct TokenRange {
  double low = 0;
  double high = 0;
  std::string text() const;  // "512", "100 to 1,024"
};

struct OverheadPoint {
  std::string workload;
  std::string metric;  // the one that tells most of this workload; output throughput unless said
  std::optional<double> batch;
  std::optional<TokenRange> input_tokens;
  std::optional<TokenRange> output_tokens;
  std::optional<double> request_rate;
  std::optional<double> table_parameters;
  std::optional<double> table_bytes;
  bool contention = false;
  std::vector<ArmResult> arms;
  std::vector<OverheadComparison> comparisons;
  std::vector<Metric> split_percent;
  bool quiet = true;  // false, too, when the file does not know
  std::optional<double> spread_percent;
  std::optional<double> limit_percent;
  bool pages_taken_away = false;  // of the tables, by the machine, and not touched before rounds
};

// "w3, batch 4, 512+32 tokens, table 1B, contention".
std::string describe_point(const OverheadPoint& point);

// Whether a cost is the same at all table sizes, as the experiment says.
struct OverheadFlatness {
  std::string text;  // "w3, batch 4: D, output_throughput"
  bool flat = false;
};

struct OverheadResult {
  std::string file;
  std::string kind;  // "overhead" or "paper"
  std::string date;
  std::string label;
  std::string command;
  std::vector<Setting> settings;  // machine, model, settings, peaks
  std::vector<OverheadPoint> points;
  std::vector<OverheadFlatness> flatness;
  std::vector<std::string> warnings;  // scaled down, interrupted
};

struct ResultSet {
  std::vector<ServeResult> serve;
  std::vector<OverheadResult> overhead;
  size_t size() const { return serve.size() + overhead.size(); }
};

// Appends what the file holds: one result, a list of them, or one after the other.
memory::Status read_results(const std::string& path, ResultSet* results);
memory::Status parse_results(std::string_view text, const std::string& name, ResultSet* results);

}  // namespace engram::tools::bench

#include "tools/bench/serve_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <sstream>
#include <thread>

#include "tools/bench/serve_report.h"
#include "tools/command.h"

namespace engram::tools::bench {
namespace {

constexpr const char* kDatasetGroup = "Dataset";
constexpr double kMost = 1e9;
constexpr size_t kHelpColumns = 64;  // beside the names
constexpr int kMostConnections = 1024;
// What the server takes, less the number that follows.
constexpr size_t kMostPrefix = 100;
constexpr const char* kIdCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-";

// One connection is served by one thread of gRPC at a time.
int default_connections() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / 2, 1, 8);
}

std::string default_prefix() {
  char text[32];
  std::snprintf(text, sizeof(text), "bench-%08x-", std::random_device()());
  return text;
}

// Without a word in the help, where the ranges would be longer than the rest.
template <typename T>
CLI::Validator range(T low, T high) {
  return CLI::Range(low, high).description("");
}
CLI::Validator at_least(int64_t low) {
  return range(low, int64_t{1} << 40);
}
CLI::Validator seconds() {
  return range(0., kMost);
}
CLI::Validator share() {
  return range(0., 1.);
}

// A group of flags; the help's lines end at column 100.
class Group {
 public:
  Group(CLI::App& app, const char* name) : app_(app), name_(name) {}
  template <typename T>
  CLI::Option* add(const char* flag, T& value, const std::string& text) {
    return app_.add_option(flag, value, folded(text))->group(name_);
  }
  void add_switch(const char* flag, bool& value, const std::string& text) {
    app_.add_flag(flag, value, folded(text))->group(name_);
  }

 private:
  static std::string folded(const std::string& text) {
    std::istringstream words(text);
    std::string lines;
    std::string word;
    size_t column = 0;
    while (words >> word) {
      const bool fits = column + word.size() < kHelpColumns;
      if (!lines.empty()) lines += fits ? ' ' : '\n';
      column = lines.empty() || fits ? column + word.size() + 1 : word.size() + 1;
      lines += word;
    }
    return lines;
  }

  CLI::App& app_;
  const char* const name_;
};

void add_server_flags(CLI::App& app, ServeFlags* f) {
  add_server_option(app, &f->server);
  Group group(app, "Options");
  f->connections = default_connections();
  group.add("--model", f->model, "Name of the model [the one that is served]");
  group
      .add(
          "--connections", f->connections,
          "TCP connections, used in turn; a server may limit the calls on each [" +
              std::to_string(f->connections) + "]")
      ->check(range(1, kMostConnections));
  group
      .add(
          "--ready-check-timeout-sec", f->ready_check_timeout_s,
          "How long a server that is loading is waited for and, when this flag is given, one that "
          "does not answer; 0: no check [600]")
      ->check(seconds());
  group.add("--request-timeout-s", f->request_timeout_s, "Deadline of each request; 0: none [0]")
      ->check(seconds());
  group.add(
      "--request-id-prefix", f->request_id_prefix,
      "Request 7 is PREFIX7 in the server's log [bench-RANDOM-]");
}

void add_arrival_flags(CLI::App& app, ServeFlags* f) {
  Group group(app, "Arrivals: planned before the run, and never changed by completions");
  group.add("--num-prompts", f->dataset.num_prompts, "Requests; 0: all of a trace [1000]")
      ->check(at_least(0));
  group.add(
      "--request-rate", f->arrivals.request_rate, "Requests per second; inf: all at once [inf]");
  group.add(
      "--burstiness", f->arrivals.burstiness,
      "Shape of the gamma distribution of the intervals: 1 is a Poisson process, below 1 is "
      "burstier, above more even, inf equal [1]");
  group
      .add(
          "--max-concurrency", f->max_concurrency,
          "Most requests in flight; others wait in the client, which is measured. With "
          "--request-rate inf a closed loop [no limit]")
      ->check(at_least(1));
  group.add(
      "--ramp-up-strategy", f->ramp_up_strategy,
      "linear or exponential: the rate goes from the one to the other of the next two, instead of "
      "--request-rate");
  group.add("--ramp-up-start-rps", f->arrivals.ramp_up_start_rps, "Requests per second");
  group.add("--ramp-up-end-rps", f->arrivals.ramp_up_end_rps, "Requests per second");
  group.add("--num-warmups", f->num_warmups, "Requests before the run, not measured [0]")
      ->check(at_least(0));
  group.add("--seed", f->arrivals.seed, "Of arrivals, prompts and lengths [0]");
}

void add_disturbance_flags(CLI::App& app, ServeFlags* f) {
  Group group(app, "Beside the load");
  Disturbances& d = f->disturbances;
  group
      .add(
          "--probe-request-rate", f->probe_rate,
          "Requests for a single token per second, at equal intervals and outside "
          "--max-concurrency, reported apart: what strangers feel [0]")
      ->check(range(0., 1e6));
  group
      .add(
          "--cancellation-rate", d.cancellation_rate,
          "Share of requests that are cancelled, 0 to 1 [0]")
      ->check(share());
  group.add("--cancellation-delay", d.cancellation_delay_s, "Seconds after they were sent [0.5]")
      ->check(seconds());
  group
      .add(
          "--slow-reader-rate", d.slow_reader_rate,
          "Share of requests that are read slowly, 0 to 1 [0]")
      ->check(share());
  group
      .add("--slow-reader-pause", d.slow_reader_pause_s, "Seconds before each of their reads [0.1]")
      ->check(seconds());
}

void add_dataset_flags(CLI::App& app, ServeFlags* f) {
  Group group(app, kDatasetGroup);
  DatasetOptions& d = f->dataset;
  const auto count = [&group](const char* flag, int64_t& value, const char* text) {
    group.add(flag, value, text)->check(at_least(0));
  };
  group.add(
      "--dataset-name", d.name, "random, prefix_repetition, custom, sharegpt or trace [random]");
  group.add("--dataset-path", d.path, "File of the last three: JSONL, ShareGPT's JSON");
  group.add_switch(
      "--ignore-eos", d.ignore_eos, "No end before the output length (random: always)");
  group.add_switch("--no-oversample", d.no_oversample, "Too short a file is not repeated");
  group.add_switch("--disable-shuffle", d.disable_shuffle, "In the order of the file");
  count("--random-input-len", d.random_input_len, "Tokens of a prompt [1024]");
  count("--random-output-len", d.random_output_len, "Tokens of an answer [128]");
  count("--random-prefix-len", d.random_prefix_len, "Tokens in front that all share [0]");
  group
      .add(
          "--random-range-ratio", d.random_range_ratio,
          "Lengths are drawn from len (1 - ratio) to len (1 + ratio) [0]")
      ->check(share());
  count("--prefix-repetition-prefix-len", d.prefix_repetition_prefix_len, "[256]");
  count("--prefix-repetition-suffix-len", d.prefix_repetition_suffix_len, "[256]");
  count("--prefix-repetition-num-prefixes", d.prefix_repetition_num_prefixes, "[10]");
  count("--prefix-repetition-output-len", d.prefix_repetition_output_len, "[128]");
  count(
      "--prefix-tree-levels", d.prefix_tree_levels,
      "Above 1 prefixes share prefixes of their own, in so many pieces [1]");
  count("--prefix-tree-branching", d.prefix_tree_branching, "Prefixes per shared piece [2]");
  count("--custom-output-len", d.custom_output_len, "Of lines without output_tokens [256]");
  group.add("--sharegpt-output-len", d.sharegpt_output_len, "[as long as the answer in the file]");
  count("--trace-block-tokens", d.trace_block_tokens, "Tokens of one hash id [512]");
  group.add("--trace-speed", f->trace_speed, "Times as fast as it was recorded [1]")
      ->check(range(1e-6, 1e6));
}

void add_sampling_flags(CLI::App& app, ServeFlags* f) {
  Group group(app, "Sampling");
  group.add("--temperature", f->temperature, "0 is greedy [0]")->check(range(0., 100.));
  group.add("--top-p", f->top_p, "Nucleus [the server's]")->check(range(1e-9, 1.));
  group.add("--top-k", f->top_k, "0 and -1 are off [the server's]")->check(range(-1, 1 << 30));
  group.add("--min-p", f->min_p, "Least share of the best token's probability [the server's]")
      ->check(share());
}

void add_report_flags(CLI::App& app, ServeFlags* f) {
  Group group(app, "Report");
  group.add(
      "--percentile-metrics", f->percentile_metrics,
      "Shown: of ttft, tpot, itl, e2el, client_queue_time, e2el_including_client_queue "
      "[ttft,tpot,itl]");
  group.add("--metric-percentiles", f->metric_percentiles, "Shown, such as 50,99,99.9 [99]");
  group.add("--goodput", f->goodput, "Objectives in ms, such as ttft:200 tpot:50 e2el:5000");
  group.add_switch(
      "--save-result", f->save_result, "Write a JSON file with vLLM's keys; ours begin with x_");
  group.add_switch("--save-detailed", f->save_detailed, "With what was measured of each request");
  group.add_switch("--append-result", f->append_result, "Add a line to the file instead");
  group.add_switch("--save-csv", f->save_csv, "A CSV file beside it, a line per request");
  group.add("--result-dir", f->result_dir, "Where the file is put; made if need be [.]");
  group.add("--result-filename", f->result_filename, "[from label, rate, model and time]");
  group.add("--metadata", f->metadata_words, "KEY=VALUE ..., written into the file");
  group.add("--label", f->label, "Written into the file");
  group.add_switch("--disable-tqdm,--no-progress", f->no_progress, "No progress line");
}

memory::Status check_saving(const CLI::App& app, ServeFlags* f) {
  if (!f->save_result && !f->append_result) {
    for (const char* name :
         {"--save-detailed", "--save-csv", "--result-dir", "--result-filename"}) {
      if (app.count(name) == 0) continue;
      return memory::invalid_argument(
          std::string(name) + " needs --save-result or --append-result");
    }
  }
  for (const std::string& word : f->metadata_words) {
    memory::Result<std::pair<std::string, std::string>> pair = parse_metadata(word);
    ENGRAM_RETURN_IF_ERROR(pair.status());
    f->metadata.push_back(std::move(pair).value());
  }
  return {};
}

memory::Status check_arrival_flags(const CLI::App& app, ServeFlags* f) {
  if (!f->ramp_up_strategy.empty()) {
    memory::Result<RampUp> ramp_up = ramp_up_of(f->ramp_up_strategy);
    ENGRAM_RETURN_IF_ERROR(ramp_up.status());
    f->arrivals.ramp_up = ramp_up.value();
  }
  ENGRAM_RETURN_IF_ERROR(check_arrivals(f->arrivals));
  if (f->dataset.name == "trace") {
    for (const char* name : {"--request-rate", "--burstiness", "--ramp-up-strategy"}) {
      if (app.count(name) == 0) continue;
      return memory::invalid_argument(
          std::string(name) + ": a trace has times of its own; --trace-speed changes them");
    }
  } else if (app.count("--trace-speed") > 0) {
    return memory::invalid_argument("--trace-speed needs --dataset-name trace");
  } else if (f->dataset.num_prompts == 0) {
    return memory::invalid_argument("--num-prompts: 0 means all that a trace has");
  }
  for (const char* delay : {"--cancellation-delay", "--slow-reader-pause"}) {
    const std::string rate =
        std::string(delay) == "--cancellation-delay" ? "--cancellation-rate" : "--slow-reader-rate";
    if (app.count(delay) > 0 && app.count(rate) == 0) {
      return memory::invalid_argument(std::string(delay) + " needs " + rate);
    }
  }
  return {};
}

// {"name": "random", "random_input_len": "20"}: the name, and what was given beside it.
std::map<std::string, std::string> dataset_words(const CLI::App& command) {
  std::map<std::string, std::string> words = {{"name", "random"}};
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_group() != kDatasetGroup || option->count() == 0) continue;
    std::string key = option->get_lnames()[0];
    std::replace(key.begin(), key.end(), '-', '_');
    if (key.rfind("dataset_", 0) == 0) key.erase(0, std::strlen("dataset_"));
    words[key] = option->results().back();
  }
  return words;
}

}  // namespace

void add_serve_flags(CLI::App& command, ServeFlags* flags) {
  add_server_flags(command, flags);
  add_arrival_flags(command, flags);
  add_disturbance_flags(command, flags);
  add_dataset_flags(command, flags);
  add_sampling_flags(command, flags);
  add_report_flags(command, flags);
}

memory::Status check_serve_flags(const CLI::App& command, ServeFlags* f) {
  ENGRAM_RETURN_IF_ERROR(check_arrival_flags(command, f));
  ENGRAM_RETURN_IF_ERROR(check_saving(command, f));
  memory::Result<Objectives> objectives = parse_goodput(f->goodput);
  ENGRAM_RETURN_IF_ERROR(objectives.status());
  f->objectives = objectives.value();
  memory::Result<std::vector<double>> percentiles = parse_percentiles(f->metric_percentiles);
  ENGRAM_RETURN_IF_ERROR(percentiles.status());
  f->percentiles = std::move(percentiles).value();
  memory::Result<std::vector<std::string>> metrics =
      parse_percentile_metrics(f->percentile_metrics);
  ENGRAM_RETURN_IF_ERROR(metrics.status());
  f->shown_metrics = std::move(metrics).value();
  f->dataset.seed = f->arrivals.seed;
  f->sampling.temperature = f->temperature;
  f->dataset_words = dataset_words(command);
  if (command.count("--top-p") > 0) f->sampling.top_p = f->top_p;
  if (command.count("--top-k") > 0) f->sampling.top_k = f->top_k;
  if (command.count("--min-p") > 0) f->sampling.min_p = f->min_p;
  f->patient = command.count("--ready-check-timeout-sec") > 0;
  if (command.count("--request-id-prefix") == 0) f->request_id_prefix = default_prefix();
  if (f->request_id_prefix.size() > kMostPrefix ||
      f->request_id_prefix.find_first_not_of(kIdCharacters) != std::string::npos) {
    return memory::invalid_argument(
        "--request-id-prefix: expected up to 100 of A-Z a-z 0-9 . _ : -, got " +
        f->request_id_prefix);
  }
  return {};
}

}  // namespace engram::tools::bench

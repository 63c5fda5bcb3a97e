// engram bench overhead: what n-gram tables cost a model, and where the cost goes.
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/engine_flags.h"
#include "tools/bench/overhead_run.h"
#include "tools/bench/share_progress.h"
#include "tools/interrupt.h"

namespace engram::tools::bench {
namespace {

using memory::Status;

constexpr double kMostParameters = 1e12;

struct Arguments {
  OverheadOptions options;
  std::string engine = "real";
  std::vector<double> table_parameters;
  std::string input = "100:1024";
  std::string output = "100:1024";
  std::string json;
  std::string label;
};

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

// Whole or not at all: a report that is being replaced is not lost when the disk is full.
Status write_report(const std::string& path, const OverheadReport& report) {
  const std::string unfinished = path + ".unfinished";
  std::ofstream file(unfinished, std::ios::binary);
  file << overhead_json(report);
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(unfinished, path, error);
  if (file && !error) return {};
  return memory::failed_precondition(
      "--output " + path + " cannot be written: " +
      (error ? error.message() : std::string("no space, or no such directory")));
}

// "engram bench overhead --model ...", as it was called.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text;
  std::string argument;
  while (std::getline(file, argument, '\0')) {
    text += text.empty() ? std::filesystem::path(argument).filename().string() : " " + argument;
  }
  return text;
}

int overhead(Arguments a) {
  OverheadOptions& o = a.options;
  if (a.engine != "real" && a.engine != "fake") {
    return report_usage("--engine " + a.engine + ": expected real or fake");
  }
  o.fake = a.engine == "fake";
  if (!o.fake && o.model.empty()) return report_usage("--model DIR is required");
  if (!parse_range(a.input, &o.input)) {
    return report_usage("--input-range " + a.input + ": expected LOW:HIGH");
  }
  if (!parse_range(a.output, &o.output)) {
    return report_usage("--output-range " + a.output + ": expected LOW:HIGH");
  }
  if (!a.table_parameters.empty()) o.table_parameters.clear();
  for (const double count : a.table_parameters) {
    if (!(count >= 0 && count <= kMostParameters)) {
      return report_usage("--table-parameters: expected counts such as 1e9, up to 1e12");
    }
    o.table_parameters.push_back(std::llround(count));
  }
  o.experiment.stop = watch_interrupts();
  spdlog::set_level(spdlog::level::warn);
  OverheadReport report;
  report.engram_version = ENGRAM_VERSION;
  report.date = now_text();
  report.command = command_line();
  report.label = a.label;
  Status saved;
  ShareProgress progress;
  const Status status = run_overhead(
      o, &report, [&](const OverheadProgress& p) { progress.update(p.what, p.done); },
      [&](const ReportPoint& point) {
        progress.clear();
        std::fputs(point_text(point).c_str(), stdout);
        std::fflush(stdout);
        // What there is survives whatever ends the run.
        if (!a.json.empty()) saved = write_report(a.json, report);
      });
  progress.clear();
  for (const Flatness& f : find_flatness(report.points)) {
    std::fputs(flatness_text(f).c_str(), stdout);
  }
  if (report.peaks.read_gbps > 0) {
    std::printf(
        "memory, %d threads: read %.1f GB/s, copy %.1f GB/s; tables: %s\n", report.threads,
        report.peaks.read_gbps, report.peaks.copy_gbps, report.machine.page_mode.c_str());
  }
  if (!report.scaled_down.empty()) std::printf("scaled down: %s\n", report.scaled_down.c_str());
  report.interrupted = report.interrupted || !status.ok();
  if (!a.json.empty() && (status.ok() || !report.points.empty())) {
    saved = write_report(a.json, report);
  }
  for (const Status& failure : {status, saved}) {
    if (!failure.ok()) std::fprintf(stderr, "engram: %s\n", failure.to_string().c_str());
  }
  if (status.code() == memory::Code::kInvalidArgument) return kUsage;
  if (!status.ok() || !saved.ok()) return kFailed;
  return report.interrupted ? kInterrupted : kDone;
}

void add_workload_options(CLI::App* command, OverheadOptions* o, Arguments* a) {
  command
      ->add_option(
          "--workload", o->workloads,
          "w1 lengths from ranges, random ids; w2 the same of --text; w3 decoding at fixed "
          "batches; w4 prefill; w5 arrivals at --request-rate [w3]")
      ->delimiter(',');
  command->add_option("--batch", o->batches, "w3: sequences that decode together [1,4]")
      ->delimiter(',');
  command->add_option("--input-len", o->input_tokens, "w3: tokens of each prompt [512]");
  command->add_option("--output-len", o->output_tokens, "w3: tokens of each answer [64]");
  command->add_option("--prompt-len", o->prompt_tokens, "w4: tokens of the prompts [512,2048]")
      ->delimiter(',');
  command->add_option("--num-seqs", o->num_seqs, "w1, w2, w5: requests [512]");
  command->add_option("--input-range", a->input, "w1, w2, w5: prompt lengths [100:1024]");
  command->add_option("--output-range", a->output, "w1, w2, w5: answer lengths [100:1024]");
  command->add_option("--request-rate", o->request_rate, "w5: requests per second");
  command->add_option("--text", o->text, "w2: file whose pieces are the prompts");
}

void add_engine_options(CLI::App* command, OverheadOptions* o, Arguments* a) {
  command->add_option(
      "-m,--model", o->model,
      "Directory with config.json; weights and rows are made up in its shape");
  command
      ->add_option(
          "--table-parameters", a->table_parameters,
          "Parameters of all tables together, a run for each, such as 0.1e9,1e9; 0: the model's "
          "own "
          "[0]")
      ->delimiter(',');
  command->add_flag(
      "--sizes-apart", o->sizes_apart,
      "Measure one table size after another; else rounds of all take turns, on the CPU and where "
      "memory holds them");
  command->add_option("--device", o->device, "cpu, cuda [cpu]")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command->add_option("-t,--threads", o->threads, "CPU threads; 0: all usable cores [0]");
  command->add_option("--dtype", o->dtype, "Activations: float32, bfloat16 [float32]")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  add_type_options(*command, &o->kv_cache_dtype, &o->table_codec);
  command->add_option("--max-num-seqs", o->max_num_seqs, "Sequences in one step [64]")
      ->check(CLI::Range(1, 1 << 16));
  command
      ->add_option(
          "--max-num-batched-tokens", o->max_num_batched_tokens, "Tokens in one step [512]")
      ->check(CLI::Range(1, 1 << 17));
  command->add_option(
      "--work-dir", o->work_directory,
      "Where table files of arm V lie meanwhile [the system's directory for temporary files]");
}

void add_fake_options(CLI::App* command, OverheadOptions* o, Arguments* a) {
  command->add_option(
      "--engine", a->engine,
      "real, or fake: arms simulated in virtual time, to test the experiment itself [real]");
  command->add_option(
      "--fake-overhead-percent", o->fake_overhead_percent, "What D truly costs over N [0]");
  command->add_option("--fake-step-ms", o->fake_step_ms, "Time of N's steps [5]")
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--fake-noise", o->fake_own_noise, "Deviation of each measurement's own noise [0.01]");
  command->add_option(
      "--fake-stalls", o->fake_stall_probability, "Share of measurements that stall [0.1]");
}

}  // namespace

void add_overhead_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command = bench.add_subcommand(
      "overhead", "What n-gram tables cost, by arms measured in turns on one engine");
  const auto a = std::make_shared<Arguments>();
  OverheadOptions& o = a->options;
  command
      ->add_option(
          "--arms", o.arms,
          "N without Engram, D rows prefetched from host memory, S fetched within the step, Z rows "
          "of zeros, H from the GPU's memory, V from NVMe [N,D,S,Z]")
      ->delimiter(',');
  add_engine_options(command, &o, a.get());
  add_workload_options(command, &o, a.get());
  command->add_option("--rounds", o.experiment.rounds, "Rounds that count, at least 7 [11]");
  command->add_option("--warm-ups", o.experiment.warm_ups, "Rounds before them [1]")
      ->check(CLI::Range(0, 100));
  command->add_option("--seed", o.experiment.seed, "Of the prompts [0]");
  command->add_option(
      "--quiet-limit", o.experiment.quiet_limit_percent,
      "Percent that one arm, measured twice a round, may differ from itself [10]");
  command->add_flag(
      "--touch-tables", o.touch_tables,
      "Read a byte of each page of the tables before each round: for virtual machines whose host "
      "takes idle memory away");
  command->add_flag(
      "--contention", o.contention, "Each workload again while a thread copies memory");
  command->add_option("-o,--output", a->json, "JSON report");
  command->add_option("--label", a->label, "A name for the report");
  add_fake_options(command, &o, a.get());
  command->callback([a, invocation] { invocation->run = [a] { return overhead(*a); }; });
}

}  // namespace engram::tools::bench

// engram bench latency: how long an engine in this process takes for one whole batch.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tools/bench/bench.h"
#include "tools/bench/experiment.h"
#include "tools/bench/inproc_command.h"
#include "tools/interrupt.h"
#include "tools/progress_line.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr int64_t kIds = 10000;  // as in vLLM

struct LatencyFlags {
  InprocFlags run;
  int64_t batch_size = 8;
  int64_t input_len = 32;
  int64_t output_len = 128;
  int64_t num_iters_warmup = 10;
  int64_t num_iters = 30;
};

void add_iteration(const InprocRun& run, const Workload& workload, LatencyResult* result) {
  Sample sample;
  read_records(workload, run.records, &sample);
  double worst = 0;
  for (const RequestRecord& r : run.records) {
    worst = std::max(worst, 1e3 * (r.messages.front().at_s - r.sent_s));
  }
  result->latencies.push_back(run.seconds);
  result->ttft_ms.push_back(sample.ttft_ms);
  result->worst_ttft_ms.push_back(worst);
  if (workload.output.high > 1) result->tpot_ms.push_back(sample.tpot_ms);
  add_work(run.work, &result->work);
}

Status iterate(
    const LatencyFlags& f,
    const Workload& workload,
    const std::vector<PlannedRequest>& plan,
    const InprocOptions& serve,
    engine::Engine* engine,
    LatencyResult* result) {
  const int64_t all = f.num_iters_warmup + f.num_iters;
  ProgressLine progress = ProgressLine::of_count("iterations", all);
  for (int64_t i = 0; i < all; ++i) {
    Result<InprocRun> run = serve_in_process(engine, plan, serve);
    if (!run.ok()) return run.status();
    result->interrupted = run.value().interrupted || serve.stop->load();
    if (run.value().interrupted) return {};
    if (i >= f.num_iters_warmup) add_iteration(run.value(), workload, result);
    progress.update(i + 1);
    if (result->interrupted) return {};
  }
  return {};
}

int latency(LatencyFlags f) {
  InprocOptions serve;
  serve.stop = watch_interrupts();
  const Result<ModelOutline> outline = prepare_inproc(&f.run);
  if (!outline.ok()) return report_error(outline.status());
  Workload workload;
  workload.name = "latency";
  workload.batch = static_cast<int>(f.batch_size);
  workload.input = {f.input_len, f.input_len};
  workload.output = {f.output_len, f.output_len};
  workload.id_limit = std::min(kIds, outline.value().config.vocab_size);
  std::vector<PlannedRequest> plan = plan_requests(workload, f.run.seed);
  f.run.engine.options.enable_prefix_caching = false;
  const std::string asked = "a batch of " + std::to_string(f.batch_size) + ", " +
                            std::to_string(f.input_len) + " tokens in and " +
                            std::to_string(f.output_len) + " out";
  Result<RunningEngine> running = start_inproc(outline.value(), asked, &plan, &f.run);
  if (!running.ok()) return report_error(running.status());
  serve.temperature = f.run.temperature;
  LatencyResult result;
  result.batch_size = f.batch_size;
  result.input_tokens = f.input_len;
  result.output_tokens = f.output_len;
  result.warm_ups = f.num_iters_warmup;
  result.asked = f.num_iters;
  const Status status = iterate(f, workload, plan, serve, running.value().engine.get(), &result);
  if (!status.ok()) return report_error(status);
  const InprocFacts& facts = running.value().facts;
  return finish_inproc(
      f.run, latency_text(facts, result), latency_json(facts, result), result.interrupted);
}

}  // namespace

void add_latency_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command = bench.add_subcommand(
      "latency", "Seconds of one whole batch on an engine in this process, again and again");
  command->footer(
      "Each iteration serves the same random prompts, without a prefix cache. Ctrl-C reports the\n"
      "iterations that were done.");
  const auto f = std::make_shared<LatencyFlags>();
  add_inproc_flags(*command, &f->run);
  const auto add = [&](const char* name, int64_t& value, int64_t least, const char* text) {
    command->add_option(name, value, text)->check(CLI::Range(least, int64_t{1} << 30));
  };
  add("--batch-size", f->batch_size, 1, "Requests that come at once [8]");
  add("--input-len", f->input_len, 1, "Tokens of each prompt [32]");
  add("--output-len", f->output_len, 1, "Tokens of each answer [128]");
  add("--num-iters-warmup", f->num_iters_warmup, 0, "Iterations before those that count [10]");
  add("--num-iters", f->num_iters, 1, "Iterations [30]");
  command->callback([f, invocation] { invocation->run = [f] { return latency(*f); }; });
}

}  // namespace engram::tools::bench

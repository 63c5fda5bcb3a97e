// engram bench throughput: how many tokens per second an engine in this process makes.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "tools/bench/bench.h"
#include "tools/bench/dataset.h"
#include "tools/bench/inproc_command.h"
#include "tools/interrupt.h"
#include "tools/progress_line.h"

namespace engram::tools::bench {
namespace {

using memory::Result;

struct ThroughputFlags {
  InprocFlags run;
  DatasetOptions dataset;
  int64_t output_len = -1;  // -1: as the dataset says
  bool enable_prefix_caching = true;
};

void fill_dataset(const ModelOutline& outline, ThroughputFlags* f) {
  DatasetOptions& d = f->dataset;
  d.seed = f->run.seed;
  d.vocab_size = static_cast<uint32_t>(outline.config.vocab_size);
  const bool made_up = f->run.engine.options.load_format == "dummy";
  for (int64_t id = 0; !made_up && id < outline.config.vocab_size; ++id) {
    const int32_t token = static_cast<int32_t>(id);
    if (outline.tokenizer->is_special(token)) d.excluded_ids.push_back(static_cast<uint32_t>(id));
  }
  const int64_t given = f->run.engine.options.max_model_len;
  d.trace_max_tokens = given > 0 ? given : outline.config.max_position_embeddings;
  if (f->output_len < 0) return;
  d.random_output_len = f->output_len;
  d.custom_output_len = f->output_len;
  d.sharegpt_output_len = f->output_len;
  d.prefix_repetition_output_len = f->output_len;
}

std::string describe(const DatasetOptions& d, const std::vector<PlannedRequest>& plan) {
  int64_t input = 0;
  int64_t output = 0;
  for (const PlannedRequest& r : plan) {
    input += r.prompt_tokens;
    output += r.max_tokens;
  }
  std::string text = d.name;
  if (!d.path.empty()) text += " " + d.path;
  return text + ": " + std::to_string(plan.size()) + " requests, " + std::to_string(input) +
         " tokens in and up to " + std::to_string(output) + " out";
}

int throughput(ThroughputFlags f) {
  InprocOptions serve;
  serve.stop = watch_interrupts();
  const Result<ModelOutline> outline = prepare_inproc(&f.run);
  if (!outline.ok()) return report_error(outline.status());
  fill_dataset(outline.value(), &f);
  Result<Dataset> dataset = load_dataset(f.dataset, [&](const std::string& text) {
    return Result<int64_t>(std::ssize(outline.value().tokenizer->encode(text, false)));
  });
  if (!dataset.ok()) return report_error(dataset.status());
  std::vector<PlannedRequest>& plan = dataset.value().requests;
  f.run.engine.options.enable_prefix_caching = f.enable_prefix_caching;
  Result<RunningEngine> running =
      start_inproc(outline.value(), describe(f.dataset, plan), &plan, &f.run);
  if (!running.ok()) return report_error(running.status());
  serve.temperature = f.run.temperature;
  serve.use_prefix_cache = f.enable_prefix_caching;
  Result<InprocRun> run = [&] {
    ProgressLine progress = ProgressLine::of_count("requests", std::ssize(plan));
    serve.on_progress = [&](size_t done) { progress.update(static_cast<int64_t>(done)); };
    return serve_in_process(running.value().engine.get(), plan, serve);
  }();
  if (!run.ok()) return report_error(run.status());
  const ThroughputResult result =
      count_throughput(run.value().records, run.value().seconds, std::move(run.value().work));
  const InprocFacts& facts = running.value().facts;
  return finish_inproc(
      f.run, throughput_text(facts, result), throughput_json(facts, result), result.interrupted);
}

void add_dataset_flags(CLI::App* command, ThroughputFlags* f) {
  DatasetOptions& d = f->dataset;
  const auto add = [&](const char* name, auto& value, const char* text) {
    return command->add_option(name, value, text)->group("Dataset");
  };
  const CLI::Range count(int64_t{0}, int64_t{1} << 40);
  add("--num-prompts", d.num_prompts, "Requests; 0: all of a trace [1000]")->check(count);
  add("--dataset-name", d.name,
      "random, prefix_repetition, custom, sharegpt or trace; they all come at once [random]");
  add("--dataset-path,--dataset", d.path, "File of the last three");
  add("--input-len", d.random_input_len, "random: tokens of a prompt [1024]")->check(count);
  add("--output-len", f->output_len, "Tokens of an answer [128; files: as they say]")->check(count);
  add("--prefix-len", d.random_prefix_len, "random: tokens in front that all share [0]")
      ->check(count);
  add("--random-range-ratio", d.random_range_ratio,
      "random: lengths are drawn from len (1 - ratio) to len (1 + ratio) [0]")
      ->check(CLI::Range(0., 1.));
  add("--prefix-repetition-prefix-len", d.prefix_repetition_prefix_len, "[256]")->check(count);
  add("--prefix-repetition-suffix-len", d.prefix_repetition_suffix_len, "[256]")->check(count);
  add("--prefix-repetition-num-prefixes", d.prefix_repetition_num_prefixes, "[10]")->check(count);
  command->add_flag("--ignore-eos", d.ignore_eos, "No end before the output length")
      ->group("Dataset");
}

}  // namespace

void add_throughput_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command = bench.add_subcommand(
      "throughput", "Tokens per second of an engine in this process, without a network");
  command->footer(
      "All requests are there at once. Steps that compute tokens of prompts count as prefill. The\n"
      "roofline says how long the machine needs at least for what the operations have to move and\n"
      "compute, by rates measured in the same run. Ctrl-C reports what there is.");
  const auto f = std::make_shared<ThroughputFlags>();
  add_inproc_flags(*command, &f->run);
  add_dataset_flags(command, f.get());
  command->add_flag(
      "--enable-prefix-caching,!--no-enable-prefix-caching", f->enable_prefix_caching,
      "Reuse the cache of prompts with the same beginning [on]");
  command->callback([f, invocation] { invocation->run = [f] { return throughput(*f); }; });
}

}  // namespace engram::tools::bench

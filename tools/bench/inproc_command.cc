#include "tools/bench/inproc_command.h"

#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <utility>

#include "memory/device/device_cpu.h"
#include "memory/device/system_limits.h"
#include "tools/bench/machine_facts.h"
#include "tools/bench/save_result.h"
#include "tools/bench/serve_report.h"
#include "tools/command.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

InprocFacts facts_of(
    const InprocFlags& flags, const ModelOutline& outline, const std::string& requests) {
  const engine::EngineOptions& o = flags.engine.options;
  InprocFacts facts;
  facts.engram_version = ENGRAM_VERSION;
  facts.date = local_time(std::time(nullptr), "%Y%m%d-%H%M%S");
  facts.command = command_line();
  facts.label = flags.label;
  facts.machine = read_machine_facts("");
  facts.model.name = std::filesystem::path(o.model).filename().string();
  facts.model.path = o.model;
  facts.model.parameters = outline.parameters;
  facts.model.layers = outline.config.num_hidden_layers;
  facts.model.engram_layers = outline.config.engram.layer_ids;
  facts.load_format = o.load_format;
  facts.dtype = o.dtype;
  facts.kv_cache_dtype = o.kv_cache_dtype;
  facts.ngram_fetch = o.ngram_fetch;
  facts.threads = o.threads > 0 ? o.threads : memory::usable_cores();
  facts.max_num_seqs = o.max_num_seqs;
  facts.max_num_batched_tokens = o.max_num_batched_tokens;
  facts.seed = flags.seed;
  facts.temperature = flags.temperature;
  facts.requests = requests;
  return facts;
}

}  // namespace

void add_inproc_flags(CLI::App& command, InprocFlags* flags) {
  add_engine_flags(command, &flags->engine);
  command.add_option("--seed", flags->seed, "Of prompts and lengths [0]");
  command.add_option("--temperature", flags->temperature, "0 is greedy [0]")
      ->check(CLI::Range(0., 100.));
  command.add_option(
      "-o,--output-json", flags->output_json, "JSON with vLLM's keys; ours begin with x_");
  command.add_option("--label", flags->label, "Written into the file");
}

Result<ModelOutline> prepare_inproc(InprocFlags* flags) {
  ENGRAM_RETURN_IF_ERROR(check_engine_flags(&flags->engine));
  if (!flags->output_json.empty()) {
    ENGRAM_RETURN_IF_ERROR(check_can_save(flags->output_json));
  }
  return read_outline(flags->engine.options);
}

Result<RunningEngine> start_inproc(
    const ModelOutline& outline,
    const std::string& requests,
    std::vector<PlannedRequest>* plan,
    InprocFlags* flags) {
  engine::EngineOptions& o = flags->engine.options;
  ENGRAM_RETURN_IF_ERROR(prepare_plan(outline, o.max_model_len, plan));
  fit_to_plan(*plan, &o);
  o.seed = flags->seed;
  ENGRAM_RETURN_IF_ERROR(check_memory(o, outline, memory::available_bytes("")));
  RunningEngine running;
  running.facts = facts_of(*flags, outline, requests);
  Result<MachinePeaks> peaks = measure_machine(o);
  if (!peaks.ok()) return peaks.status();
  running.facts.peaks = peaks.value();
  spdlog::set_level(spdlog::level::warn);
  Result<std::unique_ptr<engine::Engine>> made = engine::make_engine(o);
  if (!made.ok()) return made.status();
  running.engine = std::move(made).value();
  const engine::EngineInfo& info = running.engine->info();
  running.facts.machine.device = info.device;
  describe_tables(running.engine->tables(), &running.facts.machine);
  running.facts.table_placement = info.table_placement;
  const std::vector<memory::TableReport> tables = running.engine->tables();
  if (!tables.empty()) running.facts.table_codec = tables.front().codec;
  running.facts.kv_pages = info.kv_pages;
  running.facts.page_tokens = info.page_tokens;
  return running;
}

int report_error(const Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return status.code() == memory::Code::kInvalidArgument ? kUsage : kFailed;
}

int finish_inproc(
    const InprocFlags& flags, const std::string& text, const std::string& json, bool interrupted) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  if (!flags.output_json.empty()) {
    const Status saved = save_text(flags.output_json, json);
    if (!saved.ok()) {
      report_error(saved);
      return kFailed;
    }
  }
  return interrupted ? kInterrupted : kDone;
}

}  // namespace engram::tools::bench

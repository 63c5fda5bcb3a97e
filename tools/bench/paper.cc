// engram bench paper: the paper's measurement of n-gram tables in host memory, done again.
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/engine_flags.h"
#include "tools/bench/paper_run.h"
#include "tools/bench/save_result.h"
#include "tools/bench/serve_report.h"
#include "tools/bench/share_progress.h"
#include "tools/interrupt.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

struct PaperFlags {
  PaperOptions options;
  double table_parameters = 0;
  std::string input = "100:1024";
  std::string output = "100:1024";
  std::string dtype;
  std::string json;
  std::string label;
};

// Where the configurations lie: in the source tree, or in an unpacked archive.
std::string find_config(const std::string& name) {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path near = std::filesystem::path("configs") / "bench" / name;
  const std::filesystem::path installed =
      program.parent_path().parent_path() / "share" / "engramd" / near;
  return std::filesystem::exists(installed / "config.json", error) ? installed.string()
                                                                   : near.string();
}

int fail(const Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return status.code() == memory::Code::kInvalidArgument ? kUsage : kFailed;
}

Status read_flags(PaperFlags* f) {
  PaperOptions& o = f->options;
  if (o.models.empty()) {
    for (const PaperFigures& figures : kPaperFigures) {
      o.models.push_back(find_config(figures.directory));
    }
  }
  if (!parse_range(f->input, &o.input)) {
    return memory::invalid_argument("--input-range " + f->input + ": expected LOW:HIGH");
  }
  if (!parse_range(f->output, &o.output)) {
    return memory::invalid_argument("--output-range " + f->output + ": expected LOW:HIGH");
  }
  o.table_parameters = std::llround(f->table_parameters);
  o.dtype = !f->dtype.empty() ? f->dtype : o.device == "cuda" ? "bfloat16" : "float32";
  return f->json.empty() ? Status() : check_can_save(f->json);
}

int paper(PaperFlags f) {
  PaperOptions& o = f.options;
  o.experiment.stop = watch_interrupts();
  if (const Status status = read_flags(&f); !status.ok()) return fail(status);
  const Result<PaperRoom> room = paper_room(o.device);
  if (!room.ok()) return fail(room.status());
  spdlog::set_level(spdlog::level::warn);
  PaperReport report;
  report.run.engram_version = ENGRAM_VERSION;
  report.run.date = local_time(std::time(nullptr), "%Y-%m-%dT%H:%M:%S%z");
  report.run.command = command_line();
  report.run.label = f.label;
  Status saved;
  ShareProgress progress;
  // What there is survives whatever ends the run.
  const auto save = [&] {
    if (!f.json.empty()) saved = save_text(f.json, paper_json(report));
  };
  const Status status = run_paper(
      o, room.value(), &report, [&](const OverheadProgress& p) { progress.update(p.what, p.done); },
      save);
  progress.clear();
  const bool any = !report.run.machine.cpu.empty();
  if (any) {
    report.run.interrupted |= !status.ok();
    std::fputs(paper_text(report).c_str(), stdout);
    std::fflush(stdout);
    save();
  }
  if (!saved.ok()) fail(saved);
  if (!status.ok()) return fail(status);
  if (!saved.ok()) return kFailed;
  return report.run.interrupted ? kInterrupted : kDone;
}

void add_size_flags(CLI::App* command, PaperFlags* f) {
  PaperOptions& o = f->options;
  const auto add = [&](const char* name, auto& value, const char* text) {
    return command->add_option(name, value, text)->group("Size");
  };
  add("--scale", o.scale,
      "Part of the models' layers and width, of the sequences and of the table, for machines with "
      "less memory or time [1]");
  add("--scale-layers", o.scale_layers, "Of the layers alone [--scale]");
  add("--scale-width", o.scale_width, "Of hidden size, feed-forward size and heads [--scale]");
  add("--table-parameters", f->table_parameters, "Such as 8e9 [--scale of 100e9]")
      ->check(CLI::Range(1., 1e12));
  add("--num-seqs", o.num_seqs, "Requests [--scale of 512]")->check(CLI::Range(1, 1 << 20));
  add("--input-range", f->input, "Prompt lengths [100:1024]");
  add("--output-range", f->output, "Answer lengths [100:1024]");
}

void add_run_flags(CLI::App* command, PaperFlags* f) {
  PaperOptions& o = f->options;
  command
      ->add_option(
          "-m,--model", o.models,
          "Directories with config.json [configs/bench/paper-4b,configs/bench/paper-8b]")
      ->delimiter(',');
  command
      ->add_option(
          "--arms", o.arms,
          "N without Engram, D rows prefetched from host memory, H from the GPU's memory; also S, "
          "Z, V of bench overhead [N,D and, where it fits, H]")
      ->delimiter(',');
  command->add_option("--device", o.device, "cpu, cuda [cpu]")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  command->add_option("-t,--threads", o.threads, "CPU threads; 0: all usable cores [0]")
      ->check(CLI::Range(0, 4096));
  command->add_option("--dtype", f->dtype, "Activations [bfloat16 on a GPU, float32 elsewhere]")
      ->check(CLI::IsMember({"float32", "bfloat16"}));
  add_type_options(*command, &o.kv_cache_dtype, &o.table_codec);
  command->add_option("--max-num-seqs", o.max_num_seqs, "Sequences in one step [256]")
      ->check(CLI::Range(1, 1 << 16));
  command
      ->add_option(
          "--max-num-batched-tokens", o.max_num_batched_tokens, "Tokens in one step [2048]")
      ->check(CLI::Range(1, 1 << 17));
  command->add_option("--work-dir", o.work_directory, "For small files meanwhile [the system's]");
  command->add_option("--rounds", o.experiment.rounds, "Rounds that count, at least 7 [7]");
  command->add_option("--warm-ups", o.experiment.warm_ups, "Rounds before them [1]")
      ->check(CLI::Range(0, 100));
  command->add_option("--seed", o.experiment.seed, "Of prompts and lengths [0]");
  command->add_option(
      "--quiet-limit", o.experiment.quiet_limit_percent,
      "Percent that one arm, measured twice a round, may differ from itself [10]");
  command->add_option("-o,--output", f->json, "JSON report");
  command->add_option("--label", f->label, "A name for the report");
}

}  // namespace

void add_paper_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command = bench.add_subcommand(
      "paper", "The paper's table: dense 4B and 8B with 100B parameters of n-gram table");
  command->footer(
      "512 sequences, prompts and answers of 100 to 1024 tokens, ids below 10000, on models of "
      "the\n"
      "shapes of Qwen3-4B and 8B with made-up weights and a layer of n-gram tables at block 1. "
      "The\n"
      "paper's figures stand beside those measured here. Memory is checked before anything runs;\n"
      "what was scaled down is in the table and in the file. Ctrl-C keeps what there is.");
  const auto f = std::make_shared<PaperFlags>();
  f->options.experiment.rounds = kFewestRounds;
  add_run_flags(command, f.get());
  add_size_flags(command, f.get());
  command->callback([f, invocation] { invocation->run = [f] { return paper(*f); }; });
}

}  // namespace engram::tools::bench

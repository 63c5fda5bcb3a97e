#include "tools/bench/engine_flags.h"

#include <CLI/CLI.hpp>

#include "memory/base/byte_text.h"
#include "memory/table/geometry.h"
#include "memory/table/numa_policy.h"
#include "memory/table/placement.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr const char* kGroup = "Engine";

Status read_bytes(const char* flag, const std::string& text, int64_t* bytes) {
  if (text.empty() || text == "auto") return {};
  const Result<int64_t> read = memory::parse_bytes(text);
  if (!read.ok()) {
    return memory::invalid_argument(std::string(flag) + ": " + read.status().message());
  }
  *bytes = read.value();
  return {};
}

CLI::Option* add_kv_cache_dtype(CLI::App& command, std::string* value) {
  return command
      .add_option(
          "--kv-cache-dtype", *value,
          "Keys and values: auto (as --dtype), float32, bfloat16, fp8 [auto]")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "fp8", "fp8_e4m3"}));
}

CLI::Option* add_table_codec(CLI::App& command, std::string* value) {
  std::string names;
  for (const memory::RowCodec codec : memory::kRowCodecs) {
    names.append(names.empty() ? "" : ", ").append(memory::row_codec_name(codec));
  }
  return command.add_option("--table-codec", *value, "Made-up rows: " + names + " [bf16]");
}

void add_table_flags(CLI::App& command, EngineFlags* flags) {
  memory::TableSetOptions& tables = flags->options.tables;
  const auto add = [&](const char* name, auto& value, const char* text) {
    return command.add_option(name, value, text)->group("N-gram tables");
  };
  add("--tables", tables.directory, "Directory of table files [the model's own rows]");
  add_table_codec(command, &flags->options.dummy_table_codec)->group("N-gram tables");
  add("--table-placement", tables.placement,
      "Tiers from fast to slow, such as hbm:40GiB,host or host:8GiB,nvme [all in host memory]");
  add("--table-cache", flags->table_cache, "Memory for rows read from nvme, such as 1GiB [0]");
  add("--table-socket", tables.socket, "Socket of engram table serve, whose tables are used");
  add("--numa-policy", flags->numa_policy, "auto, none, bind:N, interleave or replicate [auto]");
  add("--ngram-fetch", flags->options.ngram_fetch,
      "prefetch; sync: within the step; zero: rows of zeros; skip: without Engram [prefetch]")
      ->check(CLI::IsMember({"prefetch", "sync", "skip", "zero"}));
  add("--ngram-gather", flags->options.ngram_gather,
      "How rows in host memory reach a GPU: loads, bulk, distinct, host; auto: measured at start "
      "[auto]")
      ->check(CLI::IsMember({"auto", "loads", "bulk", "distinct", "host"}));
}

}  // namespace

void add_engine_flags(CLI::App& command, EngineFlags* flags) {
  engine::EngineOptions& o = flags->options;
  const auto add = [&](const char* name, auto& value, const char* text) {
    return command.add_option(name, value, text)->group(kGroup);
  };
  add("-m,--model", o.model, "Directory of the checkpoint");
  add("--load-format", o.load_format,
      "auto: the checkpoint's weights; dummy: made up in the shape of its config.json [auto]")
      ->check(CLI::IsMember({"auto", "dummy"}));
  add("--device", o.device, "auto, cpu, cuda [auto]")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command
      .add_flag(
          "--cuda-graphs,!--no-cuda-graphs,!--enforce-eager", o.cuda_graphs,
          "Record decode steps once per batch size and replay them (cuda) [on]")
      ->group(kGroup);
  command
      .add_flag(
          "--async-scheduling,!--no-async-scheduling", o.async_scheduling,
          "Enqueue a recorded decode step while the one before it runs (cuda) [on]")
      ->group(kGroup);
  command
      .add_flag(
          "--pdl,!--no-pdl", o.pdl,
          "Start kernels while those before them still run (cuda, programmatic dependent launch) "
          "[on]")
      ->group(kGroup);
  command
      .add_flag(
          "--table-cumem,!--no-table-cumem", o.tables.arena.device_pages,
          "Tables in memory of cuMemCreate(), else in huge pages that are registered (cuda) [on]")
      ->group(kGroup);
  command
      .add_flag(
          "--ngram-in-graph,!--no-ngram-in-graph", o.ngram_in_graph,
          "Recorded decode steps gather their n-gram rows themselves (cuda) [on]")
      ->group(kGroup);
  command
      .add_flag(
          "--time-ngram-waits,!--no-time-ngram-waits", o.time_ngram_waits,
          "Measure how long n-gram rows take and steps wait for them, by four small kernels per "
          "Engram layer (cuda; always measured on the CPU) [off]")
      ->group(kGroup);
  add("-t,--threads", o.threads, "CPU threads; 0: all usable cores [0]")
      ->check(CLI::Range(0, 4096));
  add("--dtype", o.dtype, "Activations: auto, float32, bfloat16 [auto]")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16"}));
  add_kv_cache_dtype(command, &o.kv_cache_dtype)->group(kGroup);
  add("--max-model-len", o.max_model_len, "Tokens of a sequence [the longest that is asked for]")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  add("--max-num-seqs", o.max_num_seqs, "Sequences in one step [64]")
      ->check(CLI::Range(1, 1 << 16));
  add("--max-num-batched-tokens", o.max_num_batched_tokens, "Tokens in one step [512]")
      ->check(CLI::Range(1, 1 << 17));
  add("--kv-cache-memory,--kv-cache-memory-bytes", flags->kv_cache_memory,
      "Key-value cache, such as 2GiB [a share of the free memory]");
  add("--block-size", o.block_size, "Tokens per cache page [16]")->check(CLI::Range(1, 1024));
  add_table_flags(command, flags);
}

void add_type_options(CLI::App& command, std::string* kv_cache_dtype, std::string* table_codec) {
  add_kv_cache_dtype(command, kv_cache_dtype);
  add_table_codec(command, table_codec);
}

Status check_engine_flags(EngineFlags* flags) {
  engine::EngineOptions& o = flags->options;
  if (o.model.empty()) return memory::invalid_argument("--model DIR is required");
  ENGRAM_RETURN_IF_ERROR(engine::kv_cache_dtype(o).status());
  ENGRAM_RETURN_IF_ERROR(engine::dummy_table_codec(o).status());
  ENGRAM_RETURN_IF_ERROR(
      read_bytes("--kv-cache-memory", flags->kv_cache_memory, &o.kv_cache_bytes));
  ENGRAM_RETURN_IF_ERROR(read_bytes("--table-cache", flags->table_cache, &o.tables.cache_bytes));
  if (!o.tables.placement.empty()) {
    const Status placement = memory::parse_placement(o.tables.placement).status();
    if (!placement.ok()) {
      return memory::invalid_argument("--table-placement: " + placement.message());
    }
  }
  if (!flags->numa_policy.empty()) {
    const Result<memory::NumaPolicy> policy = memory::parse_numa_policy(flags->numa_policy);
    if (!policy.ok())
      return memory::invalid_argument("--numa-policy: " + policy.status().message());
    o.tables.arena.numa = policy.value();
  }
  if (o.max_num_batched_tokens < o.max_num_seqs) {
    return memory::invalid_argument(
        "--max-num-batched-tokens " + std::to_string(o.max_num_batched_tokens) +
        " is below --max-num-seqs " + std::to_string(o.max_num_seqs));
  }
  return {};
}

}  // namespace engram::tools::bench

#include "server/option_table.h"

#include <cinttypes>
#include <cstdio>
#include <limits>
#include <utility>

#include "memory/table/numa_policy.h"
#include "memory/table/placement.h"
#include "server/flags.h"

namespace engram::server {
namespace {

using memory::Result;
using memory::Status;

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

std::string number_text(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

// "16MiB": the largest unit that says it exactly.
std::string exact_bytes_text(int64_t bytes) {
  for (const auto& [shift, unit] : {std::pair(30, "GiB"), {20, "MiB"}, {10, "KiB"}}) {
    if (bytes != 0 && bytes % (int64_t{1} << shift) == 0) {
      return std::to_string(bytes >> shift) + unit;
    }
  }
  return std::to_string(bytes);
}

Status in_range(double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return memory::invalid_argument(
      "must be between " + number_text(low) + " and " + number_text(high) + ", got " +
      number_text(value));
}

// Builds the rows of the table; one method per kind of value.
class Table {
 public:
  explicit Table(std::vector<Flag>* flags) : flags_(flags) {}

  void group(std::string name) { group_ = std::move(name); }

  Flag& text(std::string name, std::string* value, std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.set = [value](const std::string& text) {
      *value = text;
      return Status();
    };
    flag.print = [value] { return *value; };
    return flag;
  }

  Flag& choice(
      std::string name, std::string* value, std::vector<std::string> choices, std::string help) {
    Flag& flag = text(std::move(name), value, std::move(help) + " (" + joined(choices) + ")");
    flag.set = [value, choices = std::move(choices)](const std::string& text) {
      for (const std::string& one : choices) {
        if (text != one) continue;
        *value = text;
        return Status();
      }
      return memory::invalid_argument(
          "must be one of " + joined(choices) + ", got \"" + text + "\"");
    };
    return flag;
  }

  // One of a few names for values of an enum.
  template <typename T>
  Flag& one_of(
      std::string name, T* value, std::vector<std::pair<std::string, T>> names, std::string help) {
    std::vector<std::string> known;
    for (const auto& [text, meaning] : names) known.push_back(text);
    Flag& flag = add(std::move(name), std::move(help) + " (" + joined(known) + ")");
    flag.set = [value, names, known](const std::string& text) {
      for (const auto& [one, meaning] : names) {
        if (text != one) continue;
        *value = meaning;
        return Status();
      }
      return memory::invalid_argument("must be one of " + joined(known) + ", got \"" + text + "\"");
    };
    flag.print = [value, names] {
      for (const auto& [text, meaning] : names) {
        if (*value == meaning) return text;
      }
      return std::string();
    };
    return flag;
  }

  // A switch that chooses between two values.
  template <typename T>
  Flag& either(std::string name, T* value, T on, T off, std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.is_switch = true;
    flag.set = [value, on, off](const std::string& text) {
      const Result<bool> wanted = parse_bool(text);
      if (!wanted.ok()) return wanted.status();
      *value = wanted.value() ? on : off;
      return Status();
    };
    flag.print = [value, on] { return *value == on ? "true" : "false"; };
    return flag;
  }

  Flag& list(std::string name, std::vector<std::string>* value, std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.set = [value](const std::string& text) {
      value->clear();
      for (size_t begin = 0; begin <= text.size();) {
        const size_t comma = std::min(text.find(',', begin), text.size());
        if (comma > begin) value->push_back(text.substr(begin, comma - begin));
        begin = comma + 1;
      }
      return Status();
    };
    flag.print = [value] { return joined(*value); };
    return flag;
  }

  using Parser = Result<int64_t> (*)(const std::string&);

  template <typename T>
  Flag& integer(
      std::string name, T* value, Parser parse, double low, double high, std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.set = [value, parse, low, high](const std::string& text) {
      const Result<int64_t> number = parse(text);
      if (!number.ok()) return number.status();
      ENGRAM_RETURN_IF_ERROR(in_range(static_cast<double>(number.value()), low, high));
      *value = static_cast<T>(number.value());
      return Status();
    };
    flag.print = [value] { return std::to_string(*value); };
    return flag;
  }

  Flag& bytes(std::string name, int64_t* value, double low, double high, std::string help) {
    Flag& flag = integer(std::move(name), value, parse_bytes, low, high, std::move(help));
    flag.print = [value] { return exact_bytes_text(*value); };
    return flag;
  }

  // As integer(), and "auto" for 0.
  Flag& automatic(std::string name, int64_t* value, Parser parse, double high, std::string help) {
    Flag& flag = integer(std::move(name), value, parse, 1, high, std::move(help));
    flag.set = [value, set = flag.set](const std::string& text) {
      if (text != "auto") return set(text);
      *value = 0;
      return Status();
    };
    flag.print = [value] { return *value == 0 ? "auto" : std::to_string(*value); };
    return flag;
  }

  using RealParser = Result<double> (*)(const std::string&);

  Flag& real(
      std::string name,
      double* value,
      RealParser parse,
      double low,
      double high,
      std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.set = [value, parse, low, high](const std::string& text) {
      const Result<double> number = parse(text);
      if (!number.ok()) return number.status();
      ENGRAM_RETURN_IF_ERROR(in_range(number.value(), low, high));
      *value = number.value();
      return Status();
    };
    flag.print = [value] { return number_text(*value); };
    return flag;
  }

  Flag& on_off(std::string name, bool* value, std::string help) {
    Flag& flag = add(std::move(name), std::move(help));
    flag.is_switch = true;
    flag.set = [value](const std::string& text) {
      const Result<bool> on = parse_bool(text);
      if (!on.ok()) return on.status();
      *value = on.value();
      return Status();
    };
    flag.print = [value] { return *value ? "true" : "false"; };
    return flag;
  }

 private:
  Flag& add(std::string name, std::string help) {
    Flag& flag = flags_->emplace_back();
    flag.name = std::move(name);
    flag.help = std::move(help);
    flag.group = group_;
    return flag;
  }

  std::vector<Flag>* flags_;
  std::string group_;
};

constexpr double kMost = 1e15;
constexpr double kMostPort = 65535;
constexpr double kMostSeconds = 1e6;

void add_model_flags(Table& table, Options* o) {
  table.group("Model");
  table.text("model", &o->engine.model, "Directory of the checkpoint; also the first argument")
      .aliases = {"--model-path", "-m"};
  table
      .list(
          "served-model-name", &o->served_model_names,
          "Names that requests may use, comma-separated; the first is reported. Default: the "
          "directory's name")
      .aliases = {"--alias", "-a"};
  table.choice(
      "engine", &o->engine_kind, {"model", "fake"},
      "fake: a simulator without a model, to load-test clients and this front end");
  table.choice(
      "load-format", &o->engine.load_format, {"auto", "dummy"},
      "dummy: made-up weights in the shape of config.json and bytes as tokens, for measuring");
  table.text(
      "generation-config", &o->engine.generation_config,
      "Where sampling defaults come from: auto (generation_config.json of the model), a directory "
      "with that file, or vllm (none)");
  table.choice("device", &o->engine.device, {"auto", "cpu", "cuda"}, "Where the model runs");
  table
      .on_off(
          "cuda-graphs", &o->engine.cuda_graphs,
          "Record decode steps once per batch size and replay them (cuda)")
      .off_aliases = {"--enforce-eager"};
  table.on_off(
      "async-scheduling", &o->engine.async_scheduling,
      "Enqueue a recorded decode step while the one before it runs (cuda)");
  table.on_off(
      "pdl", &o->engine.pdl,
      "Start kernels while those before them still run, to wait for them on the GPU (cuda; "
      "programmatic dependent launch, from compute capability 9.0 on)");
  table.on_off(
      "ngram-in-graph", &o->engine.ngram_in_graph,
      "Recorded decode steps hash their tokens and gather their n-gram rows themselves (cuda)");
  table.on_off(
      "time-ngram-waits", &o->engine.time_ngram_waits,
      "Measure how long n-gram rows take and steps wait for them, by four small kernels per Engram "
      "layer (cuda; always measured on the CPU)");
  table.choice(
      "dtype", &o->engine.dtype, {"auto", "float32", "bfloat16"},
      "Activations; auto is float32 on the CPU");
  table.choice(
      "kv-cache-dtype", &o->engine.kv_cache_dtype,
      {"auto", "float32", "bfloat16", "fp8", "fp8_e4m3"},
      "Keys and values in the cache; auto: as --dtype. fp8 (e4m3, a scale per token and head) "
      "takes half the memory of bfloat16");
  table
      .choice(
          "quantization", &o->engine.quantization, {"none", "fp8"},
          "fp8: the linear layers of attention and feed-forward are made f8_e4m3 while they are "
          "loaded, with a scale per 128 x 128 weights; what the checkpoint has in fp8 stays so in "
          "any case")
      .aliases = {"-q"};
  table
      .integer(
          "threads", &o->engine.threads, parse_count, 0, 4096,
          "CPU threads of the model; 0: all usable cores")
      .aliases = {"-t"};
  table
      .integer(
          "seed", &o->engine.seed, parse_count, 0, kMost,
          "Base of the seeds of requests without one")
      .aliases = {"--random-seed", "-s"};
  table.choice(
      "ngram-fetch", &o->engine.ngram_fetch, {"prefetch", "sync", "skip", "zero"},
      "How table rows reach their layer; the others are for measuring, skip and zero give the "
      "outputs of other models");
  table.choice(
      "ngram-gather", &o->engine.ngram_gather, {"auto", "loads", "bulk", "distinct", "host"},
      "How table rows in host memory reach a GPU: kernels with plain loads or bulk copies, or the "
      "host's threads; distinct: as bulk, but each row once; auto: what is fastest for the number "
      "of tokens, measured at start");
}

void add_scheduling_flags(Table& table, Options* o) {
  table.group("Scheduling and memory");
  table
      .automatic(
          "max-model-len", &o->engine.max_model_len, parse_count, kMost,
          "Tokens of prompt and completion together; 32k and 1M are understood; auto: the model's, "
          "or what fits the cache")
      .aliases = {"--context-length", "--ctx-size", "-c"};
  table
      .integer(
          "max-num-seqs", &o->engine.max_num_seqs, parse_count, 1, 1 << 16, "Sequences in one step")
      .aliases = {"--max-running-requests", "--parallel", "--np"};
  table
      .integer(
          "max-num-batched-tokens", &o->engine.max_num_batched_tokens, parse_count, 1, 1 << 20,
          "Tokens in one step; longer prompts are prefilled in chunks")
      .aliases = {"--chunked-prefill-size", "--max-prefill-tokens", "--batch-size", "-b"};
  table
      .automatic(
          "kv-cache-memory", &o->engine.kv_cache_bytes, parse_bytes, kMost,
          "Key-value cache, such as 2GiB; auto: a share of the free memory, printed at start")
      .print = [value = &o->engine.kv_cache_bytes] {
    return *value == 0 ? "auto" : exact_bytes_text(*value);
  };
  table.integer("block-size", &o->engine.block_size, parse_count, 1, 1024, "Tokens per cache page")
      .aliases = {"--page-size"};
  table
      .on_off(
          "enable-prefix-caching", &o->engine.enable_prefix_caching,
          "Reuse the cache of prompts with the same beginning")
      .off_aliases = {"--disable-radix-cache"};
  table.automatic(
      "max-queued-requests", &o->engine.max_queued_requests, parse_count, 1 << 20,
      "Waiting requests before new ones get RESOURCE_EXHAUSTED; auto: 4 x max-num-seqs");
  table.real(
      "max-request-seconds", &o->max_request_seconds, parse_seconds, 0, kMostSeconds,
      "Longest time of one request; 0: no limit");
}

void add_table_flags(Table& table, Options* o) {
  using memory::HugePages;
  using memory::IoBackend;
  using memory::PinPages;
  memory::TableSetOptions* tables = &o->engine.tables;
  table.group("N-gram tables");
  table.text(
      "tables", &tables->directory,
      "Directory of table files, layer-<l>.engram-table, as engram convert makes them; none: the "
      "checkpoint's own tensors");
  table.on_off(
      "start-early", &tables->start_early,
      "Serve while table files are still loading; rows that are not there yet come from the file");
  Flag& placement = table.text(
      "table-placement", &tables->placement,
      "Tiers for table rows from fast to slow, such as hbm:40GiB,host (hbm: a GPU's memory), "
      "host:8GiB,nvme or auto (host while it lasts, then nvme, which reads the table files); none: "
      "all in host memory");
  placement.set = [text_of = &tables->placement](const std::string& text) {
    *text_of = text;
    return text.empty() ? Status() : memory::parse_placement(text).status();
  };
  table.bytes(
      "table-cache", &tables->cache_bytes, 0, kMost,
      "Memory for rows read from nvme, all tables together");
  table.text(
      "table-socket", &tables->socket,
      "Socket of engram table serve, whose tables are used; with --tables those files say which "
      "versions are wanted");
  table.integer(
      "verify-rows", &o->engine.verify_rows, parse_count, 0, 1e9,
      "Live lookups per second that are done again and compared with the source; requests that "
      "used "
      "a wrong row end with DATA_LOSS");
  table.one_of<IoBackend>(
      "table-io", &tables->io,
      {{"auto", IoBackend::kAuto}, {"uring", IoBackend::kUring}, {"threads", IoBackend::kThreads}},
      "How table files are read; auto: io_uring where it is allowed");
  table.either(
      "require-huge-pages", &tables->arena.huge, HugePages::kRequire, HugePages::kAuto,
      "Do not start when less than 90 % of a table is in huge pages");
  table.either(
      "table-pin", &tables->arena.pin, PinPages::kTry, PinPages::kNo,
      "Lock tables in memory; a refusal is reported by engram tables");
  table.on_off(
      "table-cumem", &tables->arena.device_pages,
      "On a GPU: tables in memory of cuMemCreate(), which it maps in pages of 2 MiB, where there "
      "is such and --table-pin; else in huge pages that are registered");
  Flag& numa = table.text(
      "numa-policy", nullptr,
      "On which NUMA nodes tables lie: auto, none, bind:N, interleave or replicate");
  numa.set = [policy = &tables->arena.numa](const std::string& text) {
    const Result<memory::NumaPolicy> parsed = memory::parse_numa_policy(text);
    if (parsed.ok()) *policy = parsed.value();
    return parsed.status();
  };
  numa.print = [policy = &tables->arena.numa] { return memory::numa_policy_text(*policy); };
}

void add_server_flags(Table& table, Options* o) {
  table.group("Server");
  table.text("host", &o->host, "Address to listen on; 0.0.0.0 for all (no TLS, no access control)");
  table.integer("port", &o->port, parse_count, 0, kMostPort, "gRPC port; 0: any, printed at start");
  table.on_off("metrics", &o->metrics, "Serve Prometheus metrics");
  table.text("metrics-host", &o->metrics_host, "Address of the metrics port");
  table.integer("metrics-port", &o->metrics_port, parse_count, 0, kMostPort, "Port of the metrics");
  table.on_off("reflection", &o->reflection, "Let tools such as grpcurl list the services");
  table.real(
      "shutdown-timeout", &o->shutdown_timeout, parse_seconds, 0, kMostSeconds,
      "After SIGTERM, time for running requests to finish; 0: cancel at once");
  table.real(
      "client-stall-timeout", &o->client_stall_timeout, parse_seconds, 0.1, kMostSeconds,
      "Cancel a stream whose reader has taken nothing for this long");
  table.real(
      "engine-stall-timeout", &o->engine_stall_timeout, parse_seconds, 1, kMostSeconds,
      "Health says NOT_SERVING when the engine's loop has not turned for this long");
  table.bytes(
      "grpc-max-recv-size", &o->grpc_max_recv_bytes, 1024, 1 << 30, "Largest request message");
  table.integer(
      "grpc-max-concurrent-streams", &o->grpc_max_concurrent_streams, parse_count, 1, 1 << 20,
      "Calls at a time on one connection");
  table.real(
      "grpc-keepalive-time", &o->grpc_keepalive_time, parse_seconds, 1, kMostSeconds,
      "Ping a silent client after this long");
  table.real(
      "grpc-keepalive-timeout", &o->grpc_keepalive_timeout, parse_seconds, 1, kMostSeconds,
      "Drop a client that does not answer a ping");
  table.bytes("grpc-memory", &o->grpc_memory_bytes, 16 << 20, kMost, "Memory of gRPC's transport");
  table.real(
      "grpc-self-ping", &o->grpc_self_ping, parse_seconds, 0, 60,
      "Interval of the calls that the server makes to itself so that gRPC's idle threads do not "
      "delay the first request by up to 100 ms; 0: none");
}

void add_log_flags(Table& table, Options* o) {
  table.group("Log");
  table.choice(
      "log-level", &o->log_level, {"debug", "info", "warning", "error"}, "Least level written");
  table.choice("log-format", &o->log_format, {"text", "json"}, "json: one object per line");
  table.on_off("log-requests", &o->log_requests, "One line per request, never its text").aliases = {
      "--enable-log-requests"};
  table.on_off("log-stats", &o->log_stats, "A line of engine numbers every 10 s while busy")
      .off_aliases = {"--disable-log-stats"};
}

void add_fake_flags(Table& table, Options* o) {
  table.group("Simulator (--engine=fake)");
  table.real(
      "fake-prefill-rate", &o->fake.prefill_tokens_per_second, parse_number, 0, 1e12,
      "Prompt tokens per second; 0: prefill takes no time");
  table.real("fake-step-ms", &o->fake.step_ms, parse_number, 0, 1e6, "Milliseconds of a step");
  table.integer("fake-kv-pages", &o->fake.kv_pages, parse_count, 1, kMost, "Cache pages");
  table.real(
      "fake-load-seconds", &o->fake.load_seconds, parse_seconds, 0, kMostSeconds,
      "Time that loading takes");
  table.real(
      "fake-freeze-s", &o->fake.freeze_seconds, parse_seconds, 0, kMostSeconds,
      "Time for which the engine stands still, once");
  table.real(
      "fake-freeze-at-s", &o->fake.freeze_at_seconds, parse_seconds, 0, kMostSeconds,
      "When that begins, after the first request");
  table.real(
      "fake-fail-at-s", &o->fake.fail_at_seconds, parse_seconds, 0, kMostSeconds,
      "When its device fails for good, after the first request; 0: never");
  table.text("fake-tokenizer", &o->fake.tokenizer, "Directory with tokenizer.json; none: bytes");
}

}  // namespace

std::vector<Flag> option_table(Options* options) {
  std::vector<Flag> flags;
  flags.reserve(64);  // the builder hands out references
  Table table(&flags);
  add_model_flags(table, options);
  add_scheduling_flags(table, options);
  add_table_flags(table, options);
  add_server_flags(table, options);
  add_log_flags(table, options);
  add_fake_flags(table, options);
  return flags;
}

}  // namespace engram::server

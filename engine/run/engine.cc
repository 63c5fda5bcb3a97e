// Start-up: checkpoint to running loop, with every byte it takes in the log.
#include "engine/run/engine.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "engine/run/engine_options.h"
#include "engine/run/load_lines.h"
#include "engine/run/loop.h"
#include "engine/run/memory_plan.h"
#include "memory/table/preflight.h"
#include "memory/table/preflight_set.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::Status;
using Clock = std::chrono::steady_clock;

OpsLimits ops_limits(const EngineOptions& o, const ModelConfig& c) {
  const int64_t query_width = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t key_width = int64_t{c.num_key_value_heads} * c.head_dim;
  OpsLimits limits;
  limits.max_tokens = o.max_num_batched_tokens;
  limits.max_cols =
      std::max({c.hidden_size, query_width, c.intermediate_size, c.engram.vector_width()});
  limits.max_rows = std::max(
      {c.vocab_size, 2 * c.intermediate_size, query_width + 2 * key_width,
       (c.hc_mult + 1) * c.hidden_size});
  limits.max_context = o.max_model_len > 0 ? o.max_model_len : c.max_position_embeddings;
  limits.fp8_weights = c.quantization.any();
  limits.early_starts = o.pdl;
  return limits;
}

// Logits of the sampled rows of a step, in slices when the vocabulary is large.
int64_t logit_rows(const EngineOptions& o, const ModelConfig& c) {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const int64_t fitting = kBytes / (c.vocab_size * static_cast<int64_t>(sizeof(float)));
  return std::clamp(fitting, int64_t{1}, o.max_num_seqs);
}

Status read_generation_config(EngineParts& parts) {
  const EngineOptions& o = parts.options;
  const bool of_model = o.generation_config == "auto" || o.generation_config == "vllm";
  if (of_model && o.load_format == "dummy") return {};
  const std::string& directory = of_model ? o.model : o.generation_config;
  Result<GenerationDefaults> read = load_generation_defaults(directory);
  if (!read.ok()) return read.status();
  GenerationDefaults& defaults = read.value();
  if (!of_model && !defaults.present) {
    return memory::not_found(
        "--generation-config: there is no generation_config.json in " + directory);
  }
  parts.eos.insert(parts.eos.end(), defaults.eos_token_ids.begin(), defaults.eos_token_ids.end());
  const std::string text = describe(defaults);
  if (o.generation_config == "vllm" || text.empty()) return {};
  spdlog::info(
      "requests that leave them unset get the sampling defaults of {}/generation_config.json: {} "
      "(--generation-config=vllm: none)",
      directory, text);
  parts.info.sampling_defaults = std::move(defaults);
  return {};
}

void log_line(const std::string& line) {
  if (!line.empty()) spdlog::info("{}", line);
}

Status load_model(EngineParts& parts) {
  const EngineOptions& o = parts.options;
  Result<ModelConfig> config = load_config(o.model);
  if (!config.ok()) return config.status();
  parts.info.config = std::move(config).value();
  parts.info.config.quantization.online = o.quantization == "fp8";
  const ModelConfig& c = parts.info.config;
  parts.eos = c.eos_token_ids;
  const bool dummy = o.load_format == "dummy";
  if (dummy) {
    parts.tokenizer = make_byte_tokenizer(c.vocab_size);
  } else {
    Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(o.model);
    if (!tokenizer.ok()) return tokenizer.status();
    parts.tokenizer = std::move(tokenizer).value();
  }
  ENGRAM_RETURN_IF_ERROR(read_generation_config(parts));
  Result<std::unique_ptr<Ops>> ops = make_ops(parts.backend, ops_limits(o, c));
  if (!ops.ok()) return ops.status();
  parts.ops = std::move(ops).value();
  LoadLines lines("weights", Clock::now());
  const auto progress = [&o, &lines](const LoadProgress& p) {
    if (o.on_progress) o.on_progress({"weights", p.bytes_done, p.bytes_total});
    log_line(lines.update(p.bytes_done, p.bytes_total, Clock::now()));
  };
  Result<Weights> weights =
      dummy ? make_dummy_weights(c, *parts.backend.device, *parts.ops, dummy_table_codec(o).value())
            : load_weights(
                  o.model, c, parts.tokenizer->size(), *parts.backend.device, *parts.ops, progress);
  if (!weights.ok()) return weights.status();
  log_line(lines.finish(Clock::now()));
  parts.weights = std::move(weights).value();
  for (const auto& [name, error] : parts.weights->fp8_errors) {
    spdlog::debug(
        "{} in fp8: off by {:.2f} % of its size (root mean squares, every 16th row)", name,
        error.squared > 0 ? 100 * std::sqrt(error.squared_error / error.squared) : 0.0);
  }
  return {};
}

// What stands in the way of the tables is said, with its fix, before any memory is taken for them.
Status check_machine(const memory::TableRequest& request) {
  if (request.wanted.empty()) return {};
  for (const memory::Finding& f : memory::preflight(memory::preflight_request(request))) {
    if (f.severity == memory::Severity::kOk) continue;
    const std::string line = "preflight: " + memory::finding_line(f);
    if (f.severity == memory::Severity::kFail) {
      return f.what == "memory" ? memory::resource_exhausted(line)
                                : memory::failed_precondition(line);
    }
    spdlog::warn("{}", line);
  }
  return {};
}

Status open_tables(EngineParts& parts) {
  const EngineOptions& o = parts.options;
  memory::TableRequest request = table_request(*parts.weights);
  request.options = o.tables;
  request.options.arena.other_bytes = o.kv_cache_bytes;
  request.device = parts.backend.device.get();
  pin_for(parts.backend, &request.options);
  ENGRAM_RETURN_IF_ERROR(check_machine(request));
  LoadLines lines("n-gram tables", Clock::now());
  int64_t bytes = 0;
  for (const memory::TableGeometry& g : request.wanted) {
    bytes += g.rows * (g.value_bytes() + g.scale_bytes());
  }
  const bool in_own_memory = o.tables.socket.empty() && o.tables.placement.empty();
  if (in_own_memory) log_line(lines.begin(bytes));
  request.progress = [&o, &lines](const memory::TableProgress& p) {
    if (o.on_progress) o.on_progress({"n-gram tables", p.bytes_done, p.bytes_total});
    log_line(lines.update(p.bytes_done, p.bytes_total, Clock::now()));
  };
  Result<std::unique_ptr<memory::TableSet>> tables = memory::TableSet::open(request);
  if (!tables.ok()) return tables.status();
  parts.tables = std::move(tables).value();
  const memory::TableProgress loaded = parts.tables->progress();
  log_line(lines.update(loaded.bytes_done, loaded.bytes_total, Clock::now()));
  log_line(lines.finish(Clock::now()));
  for (const std::string& line : parts.tables->placement_lines()) spdlog::info("{}", line);
  if (o.wrap_table_for_test) {
    for (std::unique_ptr<memory::RowStore>& store : parts.tables->stores_for_test()) {
      store = o.wrap_table_for_test(std::move(store));
    }
  }
  return {};
}

void choose_gathers(EngineParts& parts) {
  const std::string& wanted = parts.options.ngram_gather;
  for (GatherReport& report : parts.prefetch->choose_gathers(parse_gather_way(wanted).value())) {
    spdlog::info(
        "n-gram rows of layer {} are gathered by: {} ({})", report.layer, report.choice,
        report.times.empty() ? "--ngram-gather " + wanted
                             : "us by number of tokens: " + report.times);
    parts.info.table_gathers[report.layer] = std::move(report.choice);
  }
}

// What decode steps that are recorded need to gather their rows themselves.
Status leave_rows_to_steps(EngineParts& parts, DType act) {
  const EngineOptions& o = parts.options;
  if (!o.ngram_in_graph || o.ngram_fetch == "skip") return {};
  if (parts.backend.decode_rows == nullptr) return {};
  std::vector<const memory::TableGeometry*> layers;
  for (const auto& store : parts.tables->stores()) layers.push_back(&store->geometry());
  if (layers.empty()) return {};
  if (o.verify_rows > 0) {
    spdlog::info(
        "n-gram rows of decode steps are gathered beside the CUDA graphs, not in them: their "
        "lookups are verified (--verify-rows {})",
        o.verify_rows);
    return {};
  }
  Result<std::unique_ptr<StepRows>> rows = StepRows::make(
      *parts.backend.device, *parts.compute, parts.backend.decode_rows, layers,
      parts.weights->token_map, parts.info.config.vocab_size, act, o.max_num_seqs);
  if (!rows.ok()) return rows.status();
  parts.step_rows = std::move(rows).value();
  parts.prefetch->leave_decodes_to(parts.step_rows.get());
  return {};
}

// Cache, activations, staging: everything whose size follows from the options.
Status allocate(EngineParts& parts, DType act) {
  const EngineOptions& o = parts.options;
  EngineInfo& info = parts.info;
  const ModelConfig& c = info.config;
  const memory::KvShape shape = kv_shape(c, o.block_size, act, kv_cache_dtype(o).value());
  Result<MemoryPlan> planned = plan_memory(
      {.page_bytes = shape.page_bytes(),
       .page_tokens = o.block_size,
       .model_positions = c.max_position_embeddings,
       .max_model_len = o.max_model_len,
       .max_num_seqs = o.max_num_seqs,
       .kv_cache_bytes = o.kv_cache_bytes,
       .available_bytes = parts.backend.device->available_bytes()});
  if (!planned.ok()) return planned.status();
  const MemoryPlan& plan = planned.value();
  info.max_model_len = plan.max_model_len;
  info.kv_pages = plan.pages;
  parts.compute = parts.backend.device->make_stream("compute");
  const bool graphs = o.cuda_graphs && parts.backend.device->records();
  // Recorded steps have a page more, for the rows that fill a batch up.
  Result<memory::KvCache> cache =
      memory::KvCache::make(*parts.backend.device, shape, plan.pages + (graphs ? 1 : 0));
  if (!cache.ok()) return cache.status();
  parts.cache = std::move(cache).value();
  parts.pool = std::make_unique<memory::PagePool>(plan.pages, o.block_size);
  const int64_t slice = logit_rows(o, c);
  Result<std::unique_ptr<Model>> model = Model::make(
      c, *parts.weights, *parts.cache, *parts.backend.device, *parts.ops,
      {.max_tokens = o.max_num_batched_tokens, .logit_rows = slice});
  if (!model.ok()) return model.status();
  parts.model = std::move(model).value();
  Result<std::unique_ptr<Prefetch>> prefetch = Prefetch::make(
      *parts.backend.device, *parts.compute, parts.tables->stores(), parts.weights->token_map, act,
      fetch_mode(o.ngram_fetch).value(),
      {.max_num_batched_tokens = o.max_num_batched_tokens, .max_num_seqs = o.max_num_seqs});
  if (!prefetch.ok()) return prefetch.status();
  parts.prefetch = std::move(prefetch).value();
  if (parts.backend.decode_rows != nullptr) {
    ENGRAM_RETURN_IF_ERROR(parts.prefetch->decode_on_device(parts.backend.decode_rows));
    choose_gathers(parts);
  }
  if (graphs) ENGRAM_RETURN_IF_ERROR(leave_rows_to_steps(parts, act));
  Result<std::unique_ptr<Runner>> runner = Runner::make(
      *parts.backend.device, *parts.compute, *parts.ops, *parts.model,
      static_cast<int>(parts.weights->engram.size()),
      {.max_num_batched_tokens = o.max_num_batched_tokens,
       .max_num_seqs = o.max_num_seqs,
       .max_pages = parts.pool->pages_for(info.max_model_len),
       .logit_rows = slice});
  if (!runner.ok()) return runner.status();
  parts.runner = std::move(runner).value();
  if (!plan.warning.empty()) spdlog::warn("{}", plan.warning);
  const int64_t tokens = plan.pages * o.block_size;
  spdlog::info(
      "memory: weights {}, n-gram tables {}, activations {}, n-gram staging {}",
      format_bytes(parts.weights->weight_bytes), format_bytes(parts.tables->bytes()),
      format_bytes(parts.model->workspace_bytes()),
      format_bytes(
          parts.prefetch->staging_bytes() +
          (parts.step_rows == nullptr ? 0 : parts.step_rows->bytes())));
  spdlog::info(
      "cache: {} of {} in {} pages of {} tokens ({}); maximum concurrency for {} tokens per "
      "request: "
      "{:.2f}x",
      format_bytes(plan.pages * shape.page_bytes()), memory::dtype_name(shape.kv_dtype), plan.pages,
      o.block_size, plan.explanation, info.max_model_len,
      static_cast<double>(tokens) / static_cast<double>(info.max_model_len));
  if (!graphs) return {};
  return parts.runner->record_decodes(
      parts.prefetch->standing_rows(), parts.step_rows.get(), static_cast<int32_t>(tokens),
      parts.prefetch->has_tickets());
}

std::string table_placement(const memory::TableSet& tables) {
  std::string text;
  for (const memory::TableReport& report : tables.reports()) {
    if (!text.empty()) text += "; ";
    text += "layer " + std::to_string(report.layer) + ": " + report.placement;
    spdlog::info(
        "n-gram table of layer {}: version {}, {}", report.layer, report.version, report.placement);
    log_line(report.memory);  // begins with the table's name
  }
  return text;
}

}  // namespace

Result<std::unique_ptr<Engine>> make_engine(const EngineOptions& options) {
  ENGRAM_RETURN_IF_ERROR(check_engine_options(options));
  std::unique_ptr<EngineParts> owned = std::make_unique<EngineParts>();
  EngineParts& parts = *owned;
  parts.options = options;
  Result<Backend> backend = open_backend(options.device, options.threads, options.time_ngram_waits);
  if (!backend.ok()) return backend.status();
  parts.backend = std::move(backend).value();
  if (options.device == "auto") spdlog::info("device auto: {}", parts.backend.device->name());
  ENGRAM_RETURN_IF_ERROR(load_model(parts));
  ENGRAM_RETURN_IF_ERROR(open_tables(parts));
  ENGRAM_RETURN_IF_ERROR(allocate(parts, act_dtype(options)));
  ENGRAM_RETURN_IF_ERROR(parts.backend.device->failure());
  parts.backend.device->seal();
  EngineInfo& info = parts.info;
  info.model_path = options.model;
  info.architecture = info.config.architecture;
  info.device = parts.backend.device->name();
  info.max_num_seqs = options.max_num_seqs;
  info.max_num_batched_tokens = options.max_num_batched_tokens;
  info.page_tokens = options.block_size;
  info.table_placement = table_placement(*parts.tables);
  return std::unique_ptr<Engine>(std::make_unique<EngineLoop>(std::move(owned)));
}

}  // namespace engram::engine

#include "tools/bench/inproc.h"

#include <algorithm>
#include <utility>

#include "engine/model/weights.h"
#include "memory/base/byte_text.h"
#include "memory/device/device_cpu.h"
#include "tools/bench/compute_peak.h"
#include "tools/bench/engine_arms.h"
#include "tools/bench/peaks.h"
#include "tools/bench/sized_model.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr int64_t kPeakBytes = int64_t{1} << 29;
constexpr int64_t kWeightBytes = 2;  // of a parameter

int64_t longest(const std::vector<PlannedRequest>& plan) {
  int64_t most = 1;
  for (const PlannedRequest& r : plan) most = std::max(most, r.prompt_tokens + r.max_tokens);
  return most;
}

// Of tables that are made up, which lie in host memory unless told otherwise.
Result<int64_t> host_table_bytes(
    const engine::EngineOptions& options, const engine::ModelConfig& config) {
  const memory::TableSetOptions& tables = options.tables;
  const bool made_up = options.load_format == "dummy" && tables.directory.empty() &&
                       tables.socket.empty() && tables.placement.empty();
  int64_t bytes = 0;
  if (!made_up) return bytes;
  const Result<memory::RowCodec> codec = engine::dummy_table_codec(options);
  if (!codec.ok()) return codec.status();
  const Result<memory::TableRequest> request = engine::dummy_table_request(config, codec.value());
  if (!request.ok()) return request.status();
  for (const auto& source : request.value().sources) {
    bytes += source->image_bytes();
  }
  return bytes;
}

}  // namespace

Result<ModelOutline> read_outline(const engine::EngineOptions& options) {
  ModelOutline outline;
  Result<engine::ModelConfig> config = engine::load_config(options.model);
  if (!config.ok()) return config.status();
  outline.config = std::move(config).value();
  outline.parameters = model_parameters(outline.config);
  if (options.load_format == "dummy") {
    outline.tokenizer = engine::make_byte_tokenizer(outline.config.vocab_size);
    return outline;
  }
  Result<std::unique_ptr<engine::Tokenizer>> tokenizer = engine::load_tokenizer(options.model);
  if (!tokenizer.ok()) return tokenizer.status();
  outline.tokenizer = std::move(tokenizer).value();
  return outline;
}

Status prepare_plan(
    const ModelOutline& outline, int64_t max_model_len, std::vector<PlannedRequest>* plan) {
  const int64_t most = max_model_len > 0 ? max_model_len : outline.config.max_position_embeddings;
  for (size_t i = 0; i < plan->size(); ++i) {
    PlannedRequest& request = (*plan)[i];
    if (request.prompt_ids.empty()) {
      const std::vector<int32_t> ids = outline.tokenizer->encode(request.prompt_text, true);
      request.prompt_ids.assign(ids.begin(), ids.end());
    }
    request.prompt_tokens = std::ssize(request.prompt_ids);
    request.at_s = 0;
    const std::string name = "request " + std::to_string(i);
    if (request.prompt_tokens == 0) return memory::invalid_argument(name + " has an empty prompt");
    if (request.prompt_tokens + request.max_tokens > most) {
      return memory::invalid_argument(
          name + ": " + std::to_string(request.prompt_tokens) + " tokens in and " +
          std::to_string(request.max_tokens) + " out, expected no more than " +
          std::to_string(most) + " together (--max-model-len, or the model's positions)");
    }
  }
  return {};
}

void fit_to_plan(const std::vector<PlannedRequest>& plan, engine::EngineOptions* options) {
  if (options->max_model_len == 0) options->max_model_len = longest(plan);
  options->max_queued_requests = std::ssize(plan) + 1;
}

Status check_memory(
    const engine::EngineOptions& options, const ModelOutline& outline, int64_t available) {
  if (options.device == "cuda") return {};
  const int64_t weights = kWeightBytes * outline.parameters;
  const Result<int64_t> tables = host_table_bytes(options, outline.config);
  if (!tables.ok()) return tables.status();
  const int64_t wanted = weights + tables.value() + options.kv_cache_bytes;
  if (wanted <= available) return {};
  return memory::resource_exhausted(
      options.model + " needs at least " + memory::format_bytes(wanted) + " of memory (weights " +
      memory::format_bytes(weights) + ", n-gram tables " + memory::format_bytes(tables.value()) +
      ", cache " + memory::format_bytes(options.kv_cache_bytes) + "), " +
      memory::format_bytes(available) + " are there");
}

Result<MachinePeaks> measure_machine(const engine::EngineOptions& options) {
  MachinePeaks peaks;
  if (options.device == "cuda") return peaks;
  const int threads = options.threads > 0 ? options.threads : memory::usable_cores();
  const Result<MemoryPeaks> memory = measure_memory_peaks(threads, kPeakBytes);
  if (!memory.ok()) return memory.status();
  peaks.read_gbps = memory.value().read_gbps;
  peaks.copy_gbps = memory.value().copy_gbps;
  peaks.gflops = measure_compute_peak(threads);
  return peaks;
}

Result<InprocRun> serve_in_process(
    engine::Engine* engine, const std::vector<PlannedRequest>& plan, const InprocOptions& options) {
  WorkMeter meter(engine);
  ServeOptions serve;
  serve.temperature = options.temperature;
  serve.use_prefix_cache = options.use_prefix_cache;
  serve.stop = options.stop;
  serve.on_poll = [&](size_t done) {
    meter.poll();
    if (options.on_progress) options.on_progress(done);
  };
  std::vector<std::vector<int32_t>> tokens;
  Result<std::vector<RequestRecord>> records = serve_plan(*engine, plan, &tokens, serve);
  if (!records.ok()) return records.status();
  InprocRun run;
  run.records = std::move(records).value();
  run.work = meter.read();
  double begin = run.records.empty() ? 0 : run.records.front().sent_s;
  for (const RequestRecord& r : run.records) {
    begin = std::min(begin, r.sent_s);
    run.seconds = std::max(run.seconds, r.done_s);
    run.interrupted |= r.outcome == Outcome::kCancelled;
  }
  run.seconds -= begin;
  return run;
}

}  // namespace engram::tools::bench

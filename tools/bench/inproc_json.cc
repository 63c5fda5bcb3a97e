// The JSON of `engram bench throughput` and `latency`.
#include <nlohmann/json.hpp>

#include "tools/bench/inproc_report.h"
#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

using Json = nlohmann::ordered_json;

Json known(double value) {
  return value > 0 ? Json(value) : Json(nullptr);
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

Json quantiles_json(const std::vector<double>& values, double scale) {
  Json json = {
      {"mean", nullptr}, {"p50", nullptr}, {"p90", nullptr}, {"p99", nullptr}, {"max", nullptr}};
  if (values.empty()) return json;
  json["mean"] = scale * mean(values);
  json["p50"] = scale * quantile(values, 0.5);
  json["p90"] = scale * quantile(values, 0.9);
  json["p99"] = scale * quantile(values, 0.99);
  json["max"] = scale * quantile(values, 1);
  return json;
}

Json step_kind_json(const StepKind& kind) {
  return {
      {"steps", kind.steps},
      {"tokens", kind.tokens},
      {"seconds", kind.seconds},
      {"mean_step_ms", kind.steps > 0 ? Json(1e3 * kind.seconds / static_cast<double>(kind.steps))
                                      : Json(nullptr)}};
}

Json rows_json(const EngineWork& work) {
  if (work.rows == 0) return nullptr;
  const double bytes = static_cast<double>(work.row_bytes);
  const double gathering = work.gather_seconds.value_or(0);
  double waited = 0;
  for (const double s : work.wait_seconds) waited += s;
  return {
      {"rows", work.rows},
      {"unique_rows", work.unique_rows},
      {"bytes", work.row_bytes},
      {"hash_seconds", work.hash_seconds},
      {"gather_seconds", work.gather_seconds ? Json(*work.gather_seconds) : Json(nullptr)},
      {"gather_gbps", known(gathering > 0 ? 1e-9 * bytes / gathering : 0)},
      {"exposed_wait_seconds", work.wait_seconds.empty() ? Json(nullptr) : Json(waited)},
      {"exposed_wait_us", quantiles_json(work.wait_seconds, 1e6)}};
}

Json ops_json(const EngineWork& work, const MachinePeaks& peaks) {
  Json list = Json::array();
  for (const OpWork& op : work.ops) {
    list.push_back(
        {{"name", op.name},
         {"calls", op.calls},
         {"bytes", op.bytes},
         {"flops", op.flops},
         {"least_seconds", known(least_seconds(op, peaks))}});
  }
  return list;
}

Json roofline_json(const EngineWork& work, const MachinePeaks& peaks) {
  const Roofline r = hold_against(work, peaks);
  return {
      {"least_seconds", known(r.least_seconds)},
      {"share", known(r.share)},
      {"memory_share", known(r.memory_share)},
      {"compute_share", known(r.compute_share)}};
}

void add_machine(const InprocFacts& f, Json* out) {
  Json& j = *out;
  j["x_machine"] = {
      {"cpu", f.machine.cpu},
      {"cores", f.machine.cores},
      {"memory_bytes", f.machine.memory_bytes},
      {"device", f.machine.device},
      {"page_mode", text_or_null(f.machine.page_mode)},
      {"numa_nodes", f.machine.numa_nodes}};
  j["x_model"] = {
      {"name", f.model.name},
      {"path", f.model.path},
      {"parameters", f.model.parameters},
      {"layers", f.model.layers},
      {"engram_layers", f.model.engram_layers}};
  j["x_settings"] = {
      {"requests", f.requests},
      {"load_format", f.load_format},
      {"dtype", f.dtype},
      {"kv_cache_dtype", f.kv_cache_dtype},
      {"table_codec", text_or_null(f.table_codec)},
      {"ngram_fetch", f.ngram_fetch},
      {"table_placement", text_or_null(f.table_placement)},
      {"threads", f.threads},
      {"max_num_seqs", f.max_num_seqs},
      {"max_num_batched_tokens", f.max_num_batched_tokens},
      {"kv_pages", f.kv_pages},
      {"page_tokens", f.page_tokens},
      {"seed", f.seed},
      {"temperature", f.temperature}};
  j["x_peaks"] = {
      {"read_gbps", known(f.peaks.read_gbps)},
      {"copy_gbps", known(f.peaks.copy_gbps)},
      {"gflops", known(f.peaks.gflops)}};
}

void add_measured(const InprocFacts& f, const EngineWork& work, bool interrupted, Json* out) {
  Json& j = *out;
  j["x_step_ms"] = quantiles_json(work.step_seconds, 1e3);
  j["x_prefill"] = step_kind_json(work.prefill);
  j["x_decode"] = step_kind_json(work.decode);
  j["x_sampling_seconds"] = nullptr;  // the engine does not know it apart from its step
  j["x_cached_tokens"] = work.cached_tokens;
  j["x_preemptions"] = work.preemptions;
  j["x_ngram"] = rows_json(work);
  j["x_ops"] = ops_json(work, f.peaks);
  j["x_roofline"] = roofline_json(work, f.peaks);
  j["x_interrupted"] = interrupted;
}

Json head_json(const InprocFacts& f, const char* kind) {
  return {{"x_kind", kind}, {"x_schema", 1},          {"x_engram_version", f.engram_version},
          {"date", f.date}, {"x_command", f.command}, {"label", text_or_null(f.label)}};
}

}  // namespace

std::string throughput_json(const InprocFacts& facts, const ThroughputResult& r) {
  const auto per_second = [&](int64_t count) {
    return r.seconds > 0 ? Json(static_cast<double>(count) / r.seconds) : Json(nullptr);
  };
  const int64_t total = r.prompt_tokens + r.output_tokens;
  Json j = head_json(facts, "throughput");
  j["elapsed_time"] = r.seconds;
  j["num_requests"] = r.completed;
  j["total_num_tokens"] = total;
  j["requests_per_second"] = per_second(r.completed);
  j["tokens_per_second"] = per_second(total);
  j["x_requests_asked"] = r.asked;
  j["x_prompt_tokens"] = r.prompt_tokens;
  j["x_output_tokens"] = r.output_tokens;
  j["x_output_tokens_per_second"] = per_second(r.output_tokens);
  add_measured(facts, r.work, r.interrupted, &j);
  add_machine(facts, &j);
  return j.dump(2) + "\n";
}

std::string latency_json(const InprocFacts& facts, const LatencyResult& r) {
  Json j = head_json(facts, "latency");
  const bool any = !r.latencies.empty();
  j["avg_latency"] = any ? Json(mean(r.latencies)) : Json(nullptr);
  j["std_latency"] = any ? Json(standard_deviation(r.latencies)) : Json(nullptr);
  j["latencies"] = r.latencies;
  Json percentiles = Json::object();
  for (const int percent : {10, 25, 50, 75, 90, 99}) {
    percentiles[std::to_string(percent)] =
        any ? Json(quantile(r.latencies, percent / 100.)) : Json(nullptr);
  }
  j["percentiles"] = percentiles;
  j["x_batch_size"] = r.batch_size;
  j["x_input_len"] = r.input_tokens;
  j["x_output_len"] = r.output_tokens;
  j["x_num_iters_warmup"] = r.warm_ups;
  j["x_num_iters"] = r.asked;
  j["x_ttft_ms"] = quantiles_json(r.ttft_ms, 1);
  j["x_worst_ttft_ms"] = quantiles_json(r.worst_ttft_ms, 1);
  j["x_tpot_ms"] = quantiles_json(r.tpot_ms, 1);
  add_measured(facts, r.work, r.interrupted, &j);
  add_machine(facts, &j);
  return j.dump(2) + "\n";
}

}  // namespace engram::tools::bench

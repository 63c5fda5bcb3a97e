#include "server/metrics.h"

#include <grpcpp/grpcpp.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include "server/process_stats.h"
#include "server/table_metrics.h"

namespace engram::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;
using Labels = prometheus::Labels;

const Buckets kTtft = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06,  0.08,  0.1,   0.25,
                       0.45,  0.5,   0.75, 1.0,  2.0,  2.5,   4.5,   5.0,   6.0,
                       7.5,   10.0,  20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const Buckets kE2e = {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                      30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const Buckets kCounts = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                         1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
const Buckets kStep = {1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2,
                       5e-2, 0.1,    0.25, 0.5,  1.0,    2.5,  5.0};
const Buckets kWait = {1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 0.1, 1.0};
const Buckets kChoices = {1, 2, 5, 10, 20};
const Buckets kHandling = {0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0};

double nanoseconds(int64_t value) {
  return static_cast<double>(value) * 1e-9;
}

}  // namespace

struct Metrics::Families {
  explicit Families(const std::string& model) : model_label({{"model_name", model}}) {}

  Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry).Add(labels);
  }
  Counter& counter(const std::string& name, const std::string& help, const Labels& labels) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry).Add(labels);
  }
  Histogram& histogram(const std::string& name, const std::string& help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry).Add(
        model_label, buckets);
  }
  // The engine reports totals; a counter takes differences.
  static void advance(Counter& counter, double total) {
    if (total > counter.Value()) counter.Increment(total - counter.Value());
  }
  Labels with(const std::string& name, const std::string& value) const {
    Labels labels = model_label;
    labels.emplace(name, value);
    return labels;
  }
  Labels layer(int index) const { return with("layer", std::to_string(index)); }

  const Labels model_label;
  const std::shared_ptr<prometheus::Registry> registry = std::make_shared<prometheus::Registry>();
  std::unique_ptr<prometheus::Exposer> exposer;
  std::mutex engine_mu;  // one at a time: observe_engine(), observe_tables()

  Gauge& running = gauge("engram_num_requests_running", "Requests in the batch.", model_label);
  Gauge& waiting = gauge("engram_num_requests_waiting", "Requests in the queue.", model_label);
  Gauge& kv_usage =
      gauge("engram_kv_cache_usage_perc", "Key-value cache pages in use, 0 to 1.", model_label);
  Gauge& kv_used =
      gauge("engram_kv_blocks", "Key-value cache pages by state.", with("state", "used"));
  Gauge& kv_free =
      gauge("engram_kv_blocks", "Key-value cache pages by state.", with("state", "free"));
  Gauge& heartbeat = gauge(
      "engram_engine_heartbeat_timestamp",
      "Unix time of the engine loop's last turn.",
      model_label);
  Gauge& draining = gauge("engram_draining", "1 while the server drains.", {});
  Gauge& active = gauge("engram_active_streams", "Completion calls in progress.", {});
  Gauge& load_ratio =
      gauge("engram_load_ratio", "Loaded share of what is being loaded, 0 to 1.", model_label);
  Gauge& load_seconds =
      gauge("engram_model_load_seconds", "Time from start to ready.", with("stage", "total"));
  Gauge& resident = gauge("process_resident_memory_bytes", "Resident memory.", {});
  Gauge& descriptors = gauge("process_open_fds", "Open file descriptors.", {});
  Gauge& threads = gauge("process_threads", "Threads.", {});

  Counter& prompt_tokens = counter(
      "engram_prompt_tokens_total", "Prompt tokens computed or found in the cache.", model_label);
  Counter& generation_tokens =
      counter("engram_generation_tokens_total", "Generated tokens.", model_label);
  Counter& prefix_queries = counter(
      "engram_prefix_cache_queries_total",
      "Prompt tokens looked up in the prefix cache.",
      model_label);
  Counter& prefix_hits = counter(
      "engram_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.", model_label);
  Counter& preemptions =
      counter("engram_num_preemptions_total", "Requests preempted for want of pages.", model_label);
  Counter& table_swaps = counter(
      "engram_table_swaps_total", "Times the tables were swapped while serving.", model_label);
  Counter& rows_verified = counter(
      "engram_table_rows_verified_total",
      "Table lookups that were done again and compared with the source.",
      model_label);
  Counter& rows_wrong = counter(
      "engram_table_rows_wrong_total",
      "Of the verified lookups, those that were not what the source says.",
      model_label);
  Counter& rows_unverified = counter(
      "engram_table_rows_unverified_total",
      "Lookups chosen to be verified whose source could not be read in time.",
      model_label);
  Counter& row_retries = counter(
      "engram_row_retries_total",
      "Sequences whose step was run again because a table row was missing.",
      model_label);
  Counter& steps = counter("engram_steps_total", "Steps of the engine.", model_label);
  Family<Counter>& success = prometheus::BuildCounter()
                                 .Name("engram_request_success_total")
                                 .Help("Finished choices by reason.")
                                 .Register(*registry);
  Family<Counter>& rejected = prometheus::BuildCounter()
                                  .Name("engram_rejected_total")
                                  .Help("Calls refused before they were queued, by reason.")
                                  .Register(*registry);
  Family<Counter>& aborts = prometheus::BuildCounter()
                                .Name("engram_aborts_total")
                                .Help("Calls that ended early, by who ended them.")
                                .Register(*registry);
  Family<Counter>& handled = prometheus::BuildCounter()
                                 .Name("grpc_server_handled_total")
                                 .Help("Calls answered, by status code.")
                                 .Register(*registry);
  Family<Histogram>& handling = prometheus::BuildHistogram()
                                    .Name("grpc_server_handling_seconds")
                                    .Help("Time from a call's arrival to its status.")
                                    .Register(*registry);
  Counter& messages =
      counter("grpc_server_messages_sent_total", "Messages of the Completions service.", {});
  Counter& stalled =
      counter("engram_client_stalled_total", "Calls ended because the client stopped reading.", {});

  Histogram& ttft =
      histogram("engram_time_to_first_token_seconds", "Arrival to the first token.", kTtft);
  Histogram& inter_token = histogram(
      "engram_inter_token_latency_seconds",
      "Between two tokens of a choice.",
      Buckets(kInterTokenBuckets.begin(), kInterTokenBuckets.end()));
  Histogram& e2e =
      histogram("engram_e2e_request_latency_seconds", "Arrival to the last token.", kE2e);
  Histogram& queue =
      histogram("engram_request_queue_time_seconds", "Arrival to the first step.", kE2e);
  Histogram& prefill =
      histogram("engram_request_prefill_time_seconds", "First step to the first token.", kE2e);
  Histogram& decode =
      histogram("engram_request_decode_time_seconds", "First token to the last.", kE2e);
  Histogram& inference =
      histogram("engram_request_inference_time_seconds", "First step to the last token.", kE2e);
  Histogram& per_token = histogram(
      "engram_request_time_per_output_token_seconds",
      "Decode time per token after the first.",
      Buckets(kInterTokenBuckets.begin(), kInterTokenBuckets.end()));
  Histogram& request_prompt =
      histogram("engram_request_prompt_tokens", "Prompt tokens per call.", kCounts);
  Histogram& request_generation =
      histogram("engram_request_generation_tokens", "Generated tokens per call.", kCounts);
  Histogram& params_n = histogram("engram_request_params_n", "sampling.n of calls.", kChoices);
  Histogram& params_max_tokens = histogram(
      "engram_request_params_max_tokens", "stopping.max_tokens of calls that set it.", kCounts);
  Histogram& tokenize =
      histogram("engram_tokenize_seconds", "Time to tokenize a call's prompts.", kTtft);
  Histogram& step_seconds = histogram("engram_step_seconds", "Time of a step.", kStep);
  Histogram& step_wait = histogram(
      "engram_ngram_step_exposed_wait_seconds",
      "Time per step that the forward pass waited for table rows.",
      kWait);

  Counter& hash_seconds =
      counter("engram_ngram_hash_seconds_total", "Time spent hashing n-grams.", model_label);
  Family<Counter>& rows = prometheus::BuildCounter()
                              .Name("engram_ngram_rows_total")
                              .Help("Table rows that tokens needed.")
                              .Register(*registry);
  Family<Counter>& unique_rows = prometheus::BuildCounter()
                                     .Name("engram_ngram_unique_rows_total")
                                     .Help("Distinct table rows within each step.")
                                     .Register(*registry);
  Family<Counter>& row_bytes = prometheus::BuildCounter()
                                   .Name("engram_ngram_bytes_total")
                                   .Help("Bytes of table rows read, as stored.")
                                   .Register(*registry);
  Family<Counter>& gather_seconds = prometheus::BuildCounter()
                                        .Name("engram_ngram_gather_seconds_total")
                                        .Help("Time spent reading table rows.")
                                        .Register(*registry);
  Family<Counter>& exposed_wait = prometheus::BuildCounter()
                                      .Name("engram_ngram_exposed_wait_seconds_total")
                                      .Help("Time the forward pass waited for table rows.")
                                      .Register(*registry);
  TableMetrics tables = TableMetrics(*registry, model_label.at("model_name"));
};

Metrics::Metrics(const std::string& model_name, const std::string& version)
    : families_(std::make_unique<Families>(model_name)) {
  families_
      ->gauge("engram_build_info", "Always 1.", {{"version", version}, {"grpc", grpc::Version()}})
      .Set(1);
  // The reasons exist from the start, so that a rate over them is never without a first sample.
  for (const char* reason : {"stop", "length", "abort"}) {
    families_->success.Add(families_->with("finished_reason", reason));
  }
}

Metrics::~Metrics() = default;

memory::Status Metrics::serve(const std::string& host, int port) {
  const bool v6 = host.find(':') != std::string::npos;
  const std::string address = (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
  try {
    families_->exposer = std::make_unique<prometheus::Exposer>(address, 1);
    families_->exposer->RegisterCollectable(families_->registry);
  } catch (const std::exception& error) {
    return memory::unavailable("--metrics-port: cannot listen on " + address + ": " + error.what());
  }
  return {};
}

int Metrics::port() const {
  return families_->exposer->GetListeningPorts().at(0);
}

void Metrics::set_engine(const engine::EngineInfo& info) {
  Labels labels = families_->model_label;
  labels.emplace("block_size", std::to_string(info.page_tokens));
  labels.emplace("num_gpu_blocks", std::to_string(info.kv_pages));
  families_->gauge("engram_cache_config_info", "Shape of the key-value cache.", labels).Set(1);
  for (const int layer : info.config.engram.layer_ids) {
    const Labels label = families_->layer(layer);
    families_->rows.Add(label);
    families_->unique_rows.Add(label);
    families_->row_bytes.Add(label);
  }
}

void Metrics::observe_engine(const engine::EngineStats& stats) {
  Families& f = *families_;
  const std::lock_guard lock(f.engine_mu);
  const int64_t used = stats.kv_pages_total - stats.kv_pages_free;
  f.running.Set(static_cast<double>(stats.running));
  f.waiting.Set(static_cast<double>(stats.waiting));
  f.kv_used.Set(static_cast<double>(used));
  f.kv_free.Set(static_cast<double>(stats.kv_pages_free));
  f.kv_usage.Set(
      static_cast<double>(used) / static_cast<double>(std::max<int64_t>(1, stats.kv_pages_total)));
  const double age =
      nanoseconds(engine::Clock::now().time_since_epoch().count() - stats.heartbeat_ns);
  f.heartbeat.Set(unix_seconds() - age);
  Families::advance(f.prompt_tokens, static_cast<double>(stats.prompt_tokens));
  Families::advance(f.generation_tokens, static_cast<double>(stats.generation_tokens));
  Families::advance(f.prefix_queries, static_cast<double>(stats.prefix_queries_tokens));
  Families::advance(f.prefix_hits, static_cast<double>(stats.cached_tokens));
  Families::advance(f.preemptions, static_cast<double>(stats.preemptions));
  Families::advance(f.table_swaps, static_cast<double>(stats.table_swaps));
  Families::advance(f.rows_verified, static_cast<double>(stats.rows_verified));
  Families::advance(f.rows_wrong, static_cast<double>(stats.rows_wrong));
  Families::advance(f.rows_unverified, static_cast<double>(stats.rows_unverified));
  Families::advance(f.row_retries, static_cast<double>(stats.row_retries));
  Families::advance(f.steps, static_cast<double>(stats.steps));
  Families::advance(f.hash_seconds, nanoseconds(stats.hash_ns));
  for (const engine::EngineStats::Layer& layer : stats.layers) {
    const Labels label = f.layer(layer.layer);
    Families::advance(f.rows.Add(label), static_cast<double>(layer.rows));
    Families::advance(f.unique_rows.Add(label), static_cast<double>(layer.unique_rows));
    Families::advance(f.row_bytes.Add(label), static_cast<double>(layer.bytes));
    if (layer.gather_ns) {
      Families::advance(f.gather_seconds.Add(label), nanoseconds(*layer.gather_ns));
    }
    if (layer.exposed_wait_ns) {
      Families::advance(f.exposed_wait.Add(label), nanoseconds(*layer.exposed_wait_ns));
    }
  }
  for (const double seconds : stats.recent_step_seconds) f.step_seconds.Observe(seconds);
  for (const double seconds : stats.recent_exposed_wait_seconds) f.step_wait.Observe(seconds);
  const ProcessStats process = read_process_stats();
  f.resident.Set(static_cast<double>(process.resident_bytes));
  f.descriptors.Set(static_cast<double>(process.open_descriptors));
  f.threads.Set(static_cast<double>(process.threads));
}

void Metrics::observe_tables(const std::vector<memory::TableReport>& reports) {
  const std::lock_guard lock(families_->engine_mu);
  families_->tables.observe(reports);
}

void Metrics::set_draining(bool draining) {
  families_->draining.Set(draining ? 1 : 0);
}
void Metrics::set_load(double share) {
  families_->load_ratio.Set(share);
}
void Metrics::model_loaded(double seconds) {
  families_->load_ratio.Set(1);
  families_->load_seconds.Set(seconds);
}
void Metrics::call_started() {
  families_->active.Increment();
}
void Metrics::client_stalled() {
  families_->stalled.Increment();
}
void Metrics::tokenized(double seconds) {
  families_->tokenize.Observe(seconds);
}

void Metrics::rpc_ended(
    const char* service, const char* method, memory::Code code, double seconds) {
  families_->handled
      .Add({{"service", service}, {"method", method}, {"code", memory::code_name(code)}})
      .Increment();
  families_->handling.Add({{"service", service}, {"method", method}}, kHandling).Observe(seconds);
}

void Metrics::call_ended(const CallRecord& record) {
  Families& f = *families_;
  f.active.Decrement();
  f.messages.Increment(static_cast<double>(record.messages));
  rpc_ended(record.service.c_str(), record.method.c_str(), record.code, record.total_seconds);
  if (!record.rejected.empty()) f.rejected.Add({{"reason", record.rejected}}).Increment();
  if (!record.aborted.empty()) f.aborts.Add({{"source", record.aborted}}).Increment();
  if (!record.submitted) return;
  int64_t choices = 0;
  for (const auto& [reason, count] : record.finished) {
    choices += count;
    f.success.Add(f.with("finished_reason", engine::finish_reason_name(reason)))
        .Increment(static_cast<double>(count));
  }
  const engine::Usage& usage = record.usage;
  f.queue.Observe(usage.queue_seconds);
  f.e2e.Observe(record.total_seconds);
  f.request_prompt.Observe(static_cast<double>(usage.prompt_tokens));
  f.request_generation.Observe(static_cast<double>(usage.completion_tokens));
  f.params_n.Observe(record.choices);
  if (record.max_tokens >= 0) f.params_max_tokens.Observe(static_cast<double>(record.max_tokens));
  if (record.first_token_seconds <= 0) return;
  const double decode = std::max(0.0, record.total_seconds - record.first_token_seconds);
  f.ttft.Observe(record.first_token_seconds);
  f.prefill.Observe(std::max(0.0, record.first_token_seconds - usage.queue_seconds));
  f.decode.Observe(decode);
  f.inference.Observe(std::max(0.0, record.total_seconds - usage.queue_seconds));
  if (usage.completion_tokens > choices) {
    f.per_token.Observe(decode / static_cast<double>(usage.completion_tokens - choices));
  }
  const auto& counts = record.inter_token.counts;
  f.inter_token.ObserveMultiple(
      std::vector<double>(counts.begin(), counts.end()), record.inter_token.sum);
}

std::string Metrics::text() const {
  return prometheus::TextSerializer().Serialize(families_->registry->Collect());
}

}  // namespace engram::server

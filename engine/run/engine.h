// The engine as a front end sees it: submit a request, receive its output through a sink, abort it.
//
// submit(), abort(), stats() and drain() may be called by any thread and never block on a step.
// A sink's methods are called by the engine's thread, one at a time per request, and must return
// at once; on_finish() is the last call for a choice, on_done() the last for a request. One request
// can never stop the engine: what goes wrong with it ends in its own status. What does is a device
// that fails, see failure(): all requests end with that then, and nothing of the step that was
// being run is told.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/tokenizer.h"
#include "memory/base/status.h"
#include "memory/table/row_store.h"
#include "memory/table/table_set.h"

namespace engram::engine {

using Clock = std::chrono::steady_clock;

struct SamplingParams {
  float temperature = 1.f;
  float top_p = 1.f;
  int32_t top_k = 0;  // 0: off
  float min_p = 0.f;
  float repetition_penalty = 1.f;
  float presence_penalty = 0.f;
  float frequency_penalty = 0.f;
  std::optional<uint64_t> seed;  // choice i draws from seed + i; absent: not reproducible
  std::vector<std::pair<int32_t, float>> logit_bias;
  int64_t max_tokens = -1;  // -1: up to max_model_len
  int64_t min_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;
  int n = 1;
  bool echo = false;
  int32_t logprobs = -1;         // -1: none; k: the chosen id and the k best
  int32_t prompt_logprobs = -1;  // the same for prompt positions 1..
};

enum class FinishReason { kNone, kStop, kLength, kCancelled, kTimeLimit, kError };
const char* finish_reason_name(FinishReason reason);  // "stop", "length", "abort", ...

struct TopLogprob {
  int32_t id = 0;
  float logprob = 0.f;
};

struct PositionLogprobs {
  int32_t id = 0;
  float logprob = 0.f;
  int32_t rank = 0;             // 1 = most likely
  std::vector<TopLogprob> top;  // descending
};

// What is new since the last delta of this choice. Text never ends inside a code point and never
// contains a stop string unless asked for.
struct Delta {
  int choice = 0;
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;         // one per token id, if asked for
  std::vector<PositionLogprobs> prompt_logprobs;  // in the first delta only; position 0 has none
};

struct Finish {
  FinishReason reason = FinishReason::kNone;
  std::optional<int32_t> matched_token;
  std::optional<std::string> matched_string;
};

// n-gram traffic of one request.
struct NgramUsage {
  int64_t rows = 0;         // rows its tokens needed, over all Engram layers
  int64_t unique_rows = 0;  // distinct rows among them
  int64_t bytes = 0;        // as stored
  double hash_seconds = 0;
  // None: not timed, since a GPU gathers and waits.
  std::optional<double> gather_seconds;
  std::optional<double> exposed_wait_seconds;  // of the steps it took part in
  std::map<int, double> mean_gate;             // by Engram layer, over its tokens
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;  // all choices, end-of-sequence ids included
  int64_t cached_tokens = 0;      // prompt tokens found in the prefix cache
  int64_t preemptions = 0;
  double queue_seconds = 0;
  double first_token_seconds = 0;  // arrival to first token
  double total_seconds = 0;
  NgramUsage ngram;
  // TableSet::version() of the tables its tokens were computed with, in the order of use: more than
  // one when they were swapped meanwhile. Empty without Engram layers.
  std::vector<std::string> table_versions;
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void on_delta(Delta delta) = 0;
  virtual void on_finish(int choice, Finish finish) = 0;
  // ok, or why the request ended early (CANCELLED, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, ...).
  // DATA_LOSS: an n-gram row could not be read; the same request may be tried again.
  virtual void on_done(const memory::Status& status, const Usage& usage) = 0;
};

struct Request {
  std::string id;  // unique among live requests
  std::vector<int32_t> prompt_ids;
  SamplingParams sampling;
  std::optional<Clock::time_point> deadline;
  bool bypass_prefix_cache = false;
  std::string cache_salt;      // requests with different salts never share cached prefixes
  std::shared_ptr<Sink> sink;  // shared: the front end and the engine let go at different times
};

// Totals since the start, and gauges of now. A plain copy.
struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t kv_pages_total = 0;
  int64_t kv_pages_free = 0;  // prefix-cached pages that may be evicted count as free
  int64_t prompt_tokens = 0;
  int64_t generation_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t prefix_queries_tokens = 0;
  int64_t preemptions = 0;
  int64_t steps = 0;
  int64_t heartbeat_ns = 0;  // steady clock, last turn of the engine loop
  std::map<FinishReason, int64_t> finished;
  struct Layer {
    int layer = 0;
    int64_t rows = 0;
    int64_t unique_rows = 0;  // distinct within each step's fetch
    int64_t bytes = 0;
    // None: not timed, since a GPU gathers and waits.
    std::optional<int64_t> gather_ns;
    std::optional<int64_t> exposed_wait_ns;
    int64_t failed_tokens = 0;  // with a row that could not be read
  };
  int64_t hash_ns = 0;
  int64_t row_retries = 0;  // sequences whose step was run again because a row was missing
  int64_t table_swaps = 0;
  int64_t rows_verified = 0;    // lookups that were done again (verify_rows)
  int64_t rows_wrong = 0;       // of those: not what the source says
  int64_t rows_unverified = 0;  // chosen, but their source could not be read in time
  std::vector<Layer> layers;
  // Tokens that were computed, and the time of their steps: a step that computes a token of a
  // prompt (one that is computed again after a preemption included) is a prefill step, any other a
  // decode step.
  int64_t prefill_tokens = 0;
  int64_t decode_tokens = 0;
  int64_t prefill_steps = 0;
  int64_t decode_steps = 0;
  int64_t graph_steps = 0;     // of those: replays of a CUDA graph
  int64_t ahead_steps = 0;     // of all: enqueued while the step before ran, see async_scheduling
  int64_t self_fed_steps = 0;  // of all: gathered their n-gram rows themselves, see ngram_in_graph
  int64_t prefill_step_ns = 0;
  int64_t decode_step_ns = 0;
  struct Op {
    const char* name = "";  // lives as long as the program
    int64_t calls = 0;
    int64_t bytes = 0;  // that must be moved at least: weights, cache, inputs, outputs
    int64_t flops = 0;
  };
  std::vector<Op> ops;
  std::vector<double> recent_step_seconds;          // since the last stats() call, bounded
  std::vector<double> recent_exposed_wait_seconds;  // per step, the same steps; empty: not timed
};

struct EngineInfo {
  std::string model_path;
  std::string architecture;
  std::string device;
  ModelConfig config;
  int64_t max_model_len = 0;
  int64_t max_num_seqs = 0;
  int64_t max_num_batched_tokens = 0;
  int64_t kv_pages = 0;
  int page_tokens = 0;
  std::string table_placement;               // one line; empty without Engram
  std::map<int, std::string> table_gathers;  // by block index: TableReport::gather
  // For what a request leaves unset; the front end fills them in.
  GenerationDefaults sampling_defaults;
};

// What a swap of tables did.
struct TableSwap {
  std::string old_version;
  std::string new_version;
  double open_seconds = 0;       // opening and loading, beside the running steps
  double pause_seconds = 0;      // between two steps
  int64_t refetched_tokens = 0;  // whose rows had been fetched ahead from the old tables
};

// What reading a byte of each page of the tables took.
struct TableTouch {
  int64_t pages = 0;  // of 4 KiB
  double seconds = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;  // stops the loop; live requests end with UNAVAILABLE
  virtual const EngineInfo& info() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;

  // Queues the request. INVALID_ARGUMENT (names the field), ALREADY_EXISTS (id is live),
  // FAILED_PRECONDITION (needs more cache than there is), RESOURCE_EXHAUSTED (queue full),
  // UNAVAILABLE (draining, or failure()). On an error the sink is not called.
  virtual memory::Status submit(Request request) = 0;
  // Ends the request with CANCELLED (or the given code). Its pages are free within two steps.
  // Unknown ids are ignored.
  virtual void abort(const std::string& id, memory::Code code) = 0;
  virtual EngineStats stats() = 0;
  // ok, or why no request is served any more: UNAVAILABLE, what the device reported and where. Any
  // thread; never blocks.
  virtual memory::Status failure() = 0;
  // What is known about each n-gram table, in the order of the model's Engram layers.
  virtual std::vector<memory::TableReport> tables() = 0;
  // Opens other versions of the model's tables and switches to them between two steps; nothing is
  // dropped, and sequences in flight go on with the new rows. Blocks until the switch is made and
  // the old tables are released; any thread but a sink's. Both tables are in memory meanwhile.
  // Errors, after which the old tables serve on: those of TableSet::open(); FAILED_PRECONDITION
  // without Engram layers; UNAVAILABLE while another swap is going on, when the engine stops or
  // after failure().
  virtual memory::Result<TableSwap> swap_tables(const memory::TableSetOptions& options) = 0;
  // Opens the same tables once more, elsewhere; they lie idle until exchange_tables() lets them and
  // the ones in use change places, which takes no loading. Returns the place they lie in, counted
  // from 0. Blocks as swap_tables() does, and with its errors; FAILED_PRECONDITION when no tables
  // lie in that place.
  virtual memory::Result<size_t> open_idle_tables(const memory::TableSetOptions& options) = 0;
  virtual memory::Result<TableSwap> exchange_tables(size_t place) = 0;
  // memory::touch_rows() of the tables in use and of idle ones, on the calling thread and beside
  // the engine's. Errors as swap_tables() has them before it opens anything.
  virtual memory::Result<TableTouch> touch_tables() = 0;
  // Changes EngineOptions::ngram_fetch; blocks until the change is made. INVALID_ARGUMENT names
  // what there is; FAILED_PRECONDITION while a request is live, without Engram layers, or when the
  // engine was started with skip, without memory for rows; UNAVAILABLE when the engine stops or
  // after failure().
  virtual memory::Status set_ngram_fetch(const std::string& mode) = 0;
  // No new requests; returns when the last one ended or the time is over (false: some are left).
  virtual bool drain(std::chrono::milliseconds limit) = 0;
};

// How far a start is: what is being loaded now.
struct StartProgress {
  std::string stage;  // "weights", "n-gram tables"
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};

struct EngineOptions {
  std::string model;            // directory
  std::string device = "auto";  // cpu, cuda, auto
  // auto: the checkpoint's tensors. dummy: made-up weights in the shape of config.json, the
  // tokenizer is bytes (for benchmarks).
  std::string load_format = "auto";
  // Codec of made-up table rows, as row_codec_name() has it; empty: bf16. With dummy alone.
  std::string dummy_table_codec;
  std::string dtype = "auto";  // activations: float32, bfloat16, auto (cpu: float32)
  // Keys and values: float32, bfloat16, fp8 (or fp8_e4m3), auto (those of the activations).
  std::string kv_cache_dtype = "auto";
  // none: weights as the checkpoint has them; fp8: linear layers of attention and feed-forward that
  // it has wider become f8_e4m3 with a scale per block of 128 x 128 (the name is vLLM's).
  std::string quantization = "none";
  int threads = 0;            // cpu: 0 = all usable cores
  int64_t max_model_len = 0;  // 0: the model's, or what fits the cache
  int64_t max_num_seqs = 64;
  int64_t max_num_batched_tokens = 512;
  int64_t max_queued_requests = 0;  // 0: 4 * max_num_seqs
  int64_t kv_cache_bytes = 0;       // 0: a share of the available memory, printed
  int block_size = 16;              // tokens per page
  bool enable_prefix_caching = true;
  // Decode steps are recorded once per batch size and replayed (cuda).
  bool cuda_graphs = true;
  // Recorded decode steps hash their tokens and gather the rows of n-gram tables in memory that the
  // device reads; else the side stream does, as for prompts. The rows are the same.
  bool ngram_in_graph = true;
  // Recorded decode steps are enqueued while the step before them runs, ids that it samples never
  // leaving the device in between; where the host has no part in their n-gram rows, and nothing
  // waits to be admitted. A sequence that ends by what it sampled has one token computed in vain
  // then. The answers are the same. (The name is vLLM's.)
  bool async_scheduling = true;
  // Kernels are started while those before them still run, and wait for them (cuda; the name is
  // that of programmatic dependent launch).
  bool pdl = true;
  // The statistics say how long n-gram rows took and steps stood still for them (cuda; the CPU's
  // always do), at the price of four small kernels per Engram layer and step. With
  // async_scheduling, a wait may be counted with the step before its own.
  bool time_ngram_waits = false;
  uint64_t seed = 0;  // base of the seeds of requests without one
  // Where sampling defaults come from: auto: generation_config.json of the model; a directory: the
  // one there; vllm: none (the name is vLLM's). End-of-sequence ids are read in any case.
  std::string generation_config = "auto";
  // How rows reach their layer: prefetch on a side stream; sync: fetched inside the step's own
  // stream (to measure what prefetch hides); skip: the Engram module is left out (to measure what
  // it costs); zero: no row is fetched and the module computes with rows of zeros (to tell the two
  // apart). The outputs of skip and zero are those of other models.
  std::string ngram_fetch = "prefetch";
  // How rows in host memory that a GPU reads reach it: loads, bulk (two kernels of the GPU), host
  // (threads of the host and a copy); auto: the fastest for each number of tokens, measured at the
  // start. The rows are the same.
  std::string ngram_gather = "auto";
  memory::TableSetOptions tables;  // where they come from, and the memory they lie in
  // Verify mode: so many live lookups per second are done again from the token ids and the source
  // of the table, beside the engine. Requests that used a wrong row end with DATA_LOSS, and so do
  // later ones that need it, until the tables are swapped. 0: none.
  int64_t verify_rows = 0;
  // Tests put a store that fails in front of each table.
  std::function<std::unique_ptr<memory::RowStore>(std::unique_ptr<memory::RowStore>)>
      wrap_table_for_test;
  // Told by make_engine(), by one thread at a time, many times a second; may be empty.
  std::function<void(const StartProgress&)> on_progress;
};

// The dtype of keys and values, and the codec of made-up rows. INVALID_ARGUMENT names the flag and
// what there is, or what it cannot be together with.
memory::Result<memory::DType> kv_cache_dtype(const EngineOptions& options);
memory::Result<memory::RowCodec> dummy_table_codec(const EngineOptions& options);

// Loads the checkpoint and starts the engine thread. Progress goes to the log.
memory::Result<std::unique_ptr<Engine>> make_engine(const EngineOptions& options);

// A simulator for load tests of the front end: no model, tokens come at fixed times.
struct FakeEngineOptions {
  double prefill_tokens_per_second = 0;  // 0: no time
  double step_ms = 0;                    // time of one decode step of all running requests
  int64_t kv_pages = 1 << 20;
  int64_t max_num_seqs = 256;
  int64_t max_queued_requests = 0;  // 0: 4 * max_num_seqs
  int64_t max_model_len = 32768;
  std::string tokenizer;    // directory; empty: ids are bytes
  double load_seconds = 0;  // time that make_fake_engine() takes
  // From so long after the first request on the engine stands still for so long.
  double freeze_at_seconds = 0;
  double freeze_seconds = 0;
  double fail_at_seconds = 0;  // the same for its end by failure(); 0: never
  std::function<void(const StartProgress&)> on_progress;  // as in EngineOptions
};
memory::Result<std::unique_ptr<Engine>> make_fake_engine(const FakeEngineOptions& options);

}  // namespace engram::engine

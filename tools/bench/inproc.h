// An engine in this process for `engram bench throughput` and `latency`: what is asked of it is
// checked before anything large is taken, then it is started and serves plans.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/tokenizer.h"
#include "engine/run/engine.h"
#include "memory/base/status.h"
#include "tools/bench/engine_work.h"
#include "tools/bench/records.h"

namespace engram::tools::bench {

// What is known of a model without loading it.
struct ModelOutline {
  engine::ModelConfig config;
  std::unique_ptr<engine::Tokenizer> tokenizer;
  int64_t parameters = 0;  // without tables
};

// INVALID_ARGUMENT, NOT_FOUND: those of load_config() and load_tokenizer().
memory::Result<ModelOutline> read_outline(const engine::EngineOptions& options);

// Texts of prompts become ids, and every request must be possible: INVALID_ARGUMENT names the first
// one that is empty, or longer than `max_model_len` (0: the model's positions) with its answer.
memory::Status prepare_plan(
    const ModelOutline& outline, int64_t max_model_len, std::vector<PlannedRequest>* plan);

// Sets what the plan decides: the longest sequence and the queue.
void fit_to_plan(const std::vector<PlannedRequest>& plan, engine::EngineOptions* options);

// RESOURCE_EXHAUSTED with the parts when weights, made-up tables and cache cannot fit into
// `available` bytes of host memory. Other devices, table files and slower tiers are left to the
// engine, which knows them better. INVALID_ARGUMENT when made-up rows cannot have the codec.
memory::Status check_memory(
    const engine::EngineOptions& options, const ModelOutline& outline, int64_t available);

// Of the host, measured now: a second of reading and computing. Devices have no such measurement.
memory::Result<MachinePeaks> measure_machine(const engine::EngineOptions& options);

struct InprocRun {
  std::vector<RequestRecord> records;  // in the order of the plan
  double seconds = 0;                  // from the first request sent to the last token or the stop
  EngineWork work;
  bool interrupted = false;
};

struct InprocOptions {
  float temperature = 0;
  bool use_prefix_cache = false;
  const std::atomic<bool>* stop = nullptr;
  std::function<void(size_t done)> on_progress;  // requests
};

// The first error of a request.
memory::Result<InprocRun> serve_in_process(
    engine::Engine* engine, const std::vector<PlannedRequest>& plan, const InprocOptions& options);

}  // namespace engram::tools::bench

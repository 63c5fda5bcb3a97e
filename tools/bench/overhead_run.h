// One whole run of `engram bench overhead`: what is asked is checked before anything large is
// taken, then each workload is measured on one engine per size of the tables. On the CPU, where
// memory holds all of them, the sizes' rounds take turns; else one size follows another.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/overhead_report.h"
#include "tools/bench/workload.h"

namespace engram::tools::bench {

struct OverheadOptions {
  std::string model;  // directory with config.json
  std::vector<std::string> arms = {"N", "D", "S", "Z"};
  std::vector<std::string> workloads = {"w3"};
  // Of all tables; 0: the model's own size.
  std::vector<int64_t> table_parameters = {0};
  // One size after another, each with the memory for itself; else in turns where they fit together.
  bool sizes_apart = false;
  std::string device = "cpu";  // or cuda
  int threads = 0;
  std::string dtype = "float32";        // activations
  std::string kv_cache_dtype = "auto";  // keys and values; auto: as activations
  std::string table_codec;              // of made-up rows, by row_codec_name(); empty: bf16
  int64_t max_num_seqs = 64;
  int64_t max_num_batched_tokens = 512;
  std::string work_directory;  // for table files; empty: the system's for temporary ones
  // Before each round all pages of the tables are read. A virtual machine's host may take idle
  // memory away, and rows then wait for it, which says nothing about the tables or the engine.
  bool touch_tables = false;
  bool contention = false;  // every workload once more with a second stream of traffic

  std::vector<int> batches = {1, 4};                 // w3
  int64_t input_tokens = 512;                        // w3
  int64_t output_tokens = 64;                        // w3
  std::vector<int64_t> prompt_tokens = {512, 2048};  // w4
  int num_seqs = 512;                                // w1, w2, w5
  LengthRange input = {100, 1024};                   // w1, w2, w5
  LengthRange output = {100, 1024};                  // w1, w2, w5
  double request_rate = 0;                           // w5
  std::string text;                                  // file, w2

  // Simulated arms instead of an engine.
  bool fake = false;
  double fake_overhead_percent = 0;
  double fake_step_ms = 5;
  double fake_own_noise = 0.01;
  double fake_stall_probability = 0.1;

  ExperimentOptions experiment;  // on_measured is set by the run
};

struct OverheadProgress {
  std::string what;  // "w3, batch 4, 1B parameters"
  double done = 0;   // 0..1 of the whole run
};

// Fills machine, model, settings, peaks and points of the report. What was measured before an error
// or a stop stays in it. `on_point` is told each point as it is done, both may be empty. Errors:
// INVALID_ARGUMENT names the option; RESOURCE_EXHAUSTED memory or disk wanted and there, before
// anything runs; those of the engine and the experiment.
memory::Status run_overhead(
    const OverheadOptions& options,
    OverheadReport* report,
    const std::function<void(const OverheadProgress&)>& on_progress,
    const std::function<void(const ReportPoint&)>& on_point);

}  // namespace engram::tools::bench

// One whole run of `engram bench paper`: the paper's models with the paper's requests, whole or
// scaled down, by the experiment of `engram bench overhead`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/overhead_run.h"
#include "tools/bench/paper_report.h"

namespace engram::tools::bench {

struct PaperOptions {
  std::vector<std::string> models;  // directories with config.json
  std::vector<std::string> arms;    // none: N, D, and H where a device's memory holds the table
  double scale = 1;                 // of layers, width, sequences and table
  double scale_layers = 0;          // 0: scale
  double scale_width = 0;           // 0: scale
  int64_t table_parameters = 0;     // 0: scale of the paper's
  int num_seqs = 0;                 // 0: scale of the paper's
  LengthRange input = {100, 1024};
  LengthRange output = {100, 1024};
  std::string device = "cpu";
  int threads = 0;
  std::string dtype = "float32";        // activations
  std::string kv_cache_dtype = "auto";  // keys and values; auto: as activations
  std::string table_codec;              // of made-up rows, by row_codec_name(); empty: bf16
  int64_t max_num_seqs = 256;
  int64_t max_num_batched_tokens = 2048;
  std::string work_directory;
  ExperimentOptions experiment;
};

// What there is of memory.
struct PaperRoom {
  int64_t host = 0;
  int64_t device = 0;  // 0: the device computes in the host's memory
};
// Asks the kernel, and the device. FAILED_PRECONDITION without the device.
memory::Result<PaperRoom> paper_room(const std::string& device);

// INVALID_ARGUMENT names the option. RESOURCE_EXHAUSTED, before anything runs, says what is wanted,
// what is there and what would fit. Otherwise as run_overhead(), and what was measured before an
// error or a stop stays in the report. `on_model` is told when a model is done.
memory::Status run_paper(
    const PaperOptions& options,
    const PaperRoom& room,
    PaperReport* report,
    const std::function<void(const OverheadProgress&)>& on_progress,
    const std::function<void()>& on_model);

}  // namespace engram::tools::bench

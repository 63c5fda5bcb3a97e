// What `engram bench throughput` and `latency` have in common: from flags to an engine that runs
// and what a report says about it, and how they end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/bench/engine_flags.h"
#include "tools/bench/inproc.h"
#include "tools/bench/inproc_report.h"

namespace engram::tools::bench {

struct InprocFlags {
  EngineFlags engine;
  std::string output_json;
  std::string label;
  uint64_t seed = 0;
  float temperature = 0;
};

void add_inproc_flags(CLI::App& command, InprocFlags* flags);

// Checked flags, and a model that is known but not loaded.
memory::Result<ModelOutline> prepare_inproc(InprocFlags* flags);

struct RunningEngine {
  std::unique_ptr<engine::Engine> engine;
  InprocFacts facts;
};

// Checks the plan and the memory, measures the machine, starts the engine. `requests` says in words
// what is asked.
memory::Result<RunningEngine> start_inproc(
    const ModelOutline& outline,
    const std::string& requests,
    std::vector<PlannedRequest>* plan,
    InprocFlags* flags);

// Prints the error; kUsage for INVALID_ARGUMENT, else kFailed.
int report_error(const memory::Status& status);
// Prints the text and saves the JSON where that is asked for; kDone, kInterrupted or kFailed.
int finish_inproc(
    const InprocFlags& flags, const std::string& text, const std::string& json, bool interrupted);

}  // namespace engram::tools::bench

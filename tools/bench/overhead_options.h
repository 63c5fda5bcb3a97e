// What is asked of a run of `engram bench overhead`: whether it can be, and which workloads it
// means.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "memory/base/status.h"
#include "tools/bench/overhead_run.h"
#include "tools/bench/workload.h"

namespace engram::tools::bench {

// INVALID_ARGUMENT names the option.
memory::Status check_options(const OverheadOptions& options);

// What is asked of the engine whatever the size of its tables.
engine::EngineOptions common_engine_options(const OverheadOptions& options);

// Ids of the text that w2 takes its prompts from. Errors: those of the tokenizer and the file;
// INVALID_ARGUMENT when it is shorter than the longest prompt.
memory::Result<std::shared_ptr<const std::vector<int32_t>>> read_text_ids(
    const OverheadOptions& options);

//   text  read_text_ids(); null without w2
std::vector<Workload> make_workloads(
    const OverheadOptions& options, const std::shared_ptr<const std::vector<int32_t>>& text);

// Why the lengths are not the paper's; empty when they are, or no workload has its.
std::string scaled_down(const OverheadOptions& options);

}  // namespace engram::tools::bench

// Where `engram bench serve` puts its result.
#pragma once

#include <span>
#include <string>

#include "memory/base/status.h"
#include "tools/bench/records.h"
#include "tools/bench/serve_flags.h"
#include "tools/bench/serve_metrics.h"
#include "tools/bench/serve_report.h"

namespace engram::tools::bench {

// Makes the directory and tries whether it can be written to, before a long run.
memory::Status prepare_saving(const ServeFlags& flags);

// The files that the flags ask for; says on standard error where they are.
memory::Status save_result(
    const ServeFlags& flags,
    const ServeRun& run,
    const ServeMetrics& metrics,
    std::span<const RequestRecord> records);

}  // namespace engram::tools::bench

// The commands of `engram bench`: each adds itself to the command line.
#pragma once

#include "tools/command.h"

namespace engram::tools::bench {

void add_compare_command(CLI::App& bench, Invocation* invocation);
void add_latency_command(CLI::App& bench, Invocation* invocation);
void add_overhead_command(CLI::App& bench, Invocation* invocation);
void add_paper_command(CLI::App& bench, Invocation* invocation);
void add_report_command(CLI::App& bench, Invocation* invocation);
void add_serve_command(CLI::App& bench, Invocation* invocation);
void add_throughput_command(CLI::App& bench, Invocation* invocation);

}  // namespace engram::tools::bench

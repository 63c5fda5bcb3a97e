// engram bench: what a server delivers under load, and what the n-gram tables cost it.
#include "tools/bench/bench.h"

#include <CLI/CLI.hpp>

namespace engram::tools {

void add_bench_command(CLI::App& app, Invocation* invocation) {
  CLI::App* group =
      app.add_subcommand("bench", "Load tests of a server, and what the n-gram tables cost");
  group->require_subcommand(1);
  bench::add_serve_command(*group, invocation);
  bench::add_throughput_command(*group, invocation);
  bench::add_latency_command(*group, invocation);
  bench::add_overhead_command(*group, invocation);
  bench::add_paper_command(*group, invocation);
  bench::add_report_command(*group, invocation);
  bench::add_compare_command(*group, invocation);
}

}  // namespace engram::tools

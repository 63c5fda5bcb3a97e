// engram: the client of engramd, and offline tools for its checkpoints.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "tools/command.h"

namespace engram::tools {
namespace {

constexpr const char* kAbout =
    "engram talks to engramd, and looks into checkpoints offline.\n"
    "Try: engram complete \"The following options are\"";
constexpr const char* kExitCodes =
    "Exit codes: 0 done, 1 the request or file was refused or failed, 2 wrong usage, 3 no server\n"
    "answered, 130 interrupted by Ctrl-C (the request is cancelled on the server).";

int run(int argc, char** argv) {
  CLI::App app(kAbout, "engram");
  app.footer(kExitCodes);
  app.require_subcommand(1);
  app.set_version_flag("--version", "engram " ENGRAM_VERSION);
  app.get_formatter()->column_width(36);
  Invocation invocation;
  add_bench_command(app, &invocation);
  add_complete_command(app, &invocation);
  add_tokenize_command(app, &invocation);
  add_stats_command(app, &invocation);
  add_tables_command(app, &invocation);
  add_hash_command(app, &invocation);
  add_convert_command(app, &invocation);
  add_inspect_command(app, &invocation);
  add_preflight_command(app, &invocation);
  add_table_command(app, &invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);  // --help, --version
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "engram: %s\nSee engram --help.\n", error.what());
    return kUsage;
  }
  return invocation.run();
}

}  // namespace
}  // namespace engram::tools

int main(int argc, char** argv) {
  return engram::tools::run(argc, argv);
}

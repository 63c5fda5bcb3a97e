// engramd: reads its options, then listens, loads and serves until a signal.
//
// Exit codes: 0 done or drained, 1 cannot serve or the engine failed, 2 wrong options, 130 or 143
// ended by a second SIGINT or SIGTERM.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/engine.h"
#include "server/log.h"
#include "server/options.h"
#include "server/server.h"
#include "server/version.h"

namespace engram::server {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongOptions = 2;

// Lock-free, so that the handler may write it.
std::atomic<int> stop_signal = 0;

extern "C" void on_signal(int signal) {
  // The second one does not wait for anything.
  if (stop_signal.exchange(signal) != 0) std::_Exit(128 + signal);
}

int complain(const memory::Status& status, int code) {
  std::fprintf(stderr, "engramd: %s\n", status.message().c_str());
  return code;
}

void print_config(const ParsedOptions& parsed) {
  size_t name_width = 0;
  size_t value_width = 0;
  for (const OptionValue& value : parsed.values) {
    name_width = std::max(name_width, value.name.size());
    value_width = std::max(value_width, value.value.size());
  }
  for (const OptionValue& value : parsed.values) {
    std::printf(
        "%-*s  %-*s  # %s\n", static_cast<int>(name_width + 1), (value.name + ":").c_str(),
        static_cast<int>(value_width), value.value.c_str(), value.origin.c_str());
  }
}

int serve(const Options& options) {
  const memory::Status logging = start_logging(options.log_level, options.log_format);
  if (!logging.ok()) return complain(logging, kWrongOptions);
  quiet_grpc();
  memory::Status status;
  {
    Server server(options);
    std::signal(SIGTERM, on_signal);
    std::signal(SIGINT, on_signal);
    std::signal(SIGPIPE, SIG_IGN);
    status = server.start();
    if (status.ok()) {
      status = server.run(
          [&options](OnProgress on_progress) -> memory::Result<std::unique_ptr<engine::Engine>> {
            if (options.engine_kind == "fake") {
              engine::FakeEngineOptions fake = options.fake;
              fake.on_progress = std::move(on_progress);
              return engine::make_fake_engine(fake);
            }
            engine::EngineOptions real = options.engine;
            real.on_progress = std::move(on_progress);
            return engine::make_engine(real);
          },
          stop_signal);
    }
  }
  stop_logging();
  return status.ok() ? 0 : complain(status, kFailed);
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  memory::Result<ParsedOptions> parsed =
      parse_options(arguments, [](const char* name) -> const char* { return std::getenv(name); });
  if (!parsed.ok()) return complain(parsed.status(), kWrongOptions);
  const ParsedOptions& options = parsed.value();
  switch (options.action) {
    case Action::kHelp:
      std::fputs(options.help.c_str(), stdout);
      return 0;
    case Action::kVersion:
      std::printf("engramd %s\n", kVersion);
      return 0;
    case Action::kHealthCheck: {
      const memory::Status status = check_health(options.health_address);
      if (!status.ok()) return complain(status, kFailed);
      std::puts("ready");
      return 0;
    }
    case Action::kPrintConfig:
      print_config(options);
      return 0;
    case Action::kCheckConfig:
      return 0;
    case Action::kServe:
      break;
  }
  return serve(options.options);
}

}  // namespace
}  // namespace engram::server

int main(int argc, char** argv) {
  return engram::server::run(argc, argv);
}

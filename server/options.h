// The options of engramd: one table of flags, each with its vLLM name, the names other servers use
// for it, a parser, a printer and a line of help. Every flag can also be set as ENGRAM_<FLAG> in
// the environment and under its name without dashes in the YAML file of --config; command line
// beats environment beats file beats default.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "memory/base/status.h"

namespace engram::server {

struct Options {
  Options() { engine.tables.arena.pin = memory::PinPages::kTry; }

  engine::EngineOptions engine;
  engine::FakeEngineOptions fake;
  std::string engine_kind = "model";  // model, fake
  std::vector<std::string> served_model_names;

  std::string host = "127.0.0.1";
  int64_t port = 8001;
  std::string metrics_host = "127.0.0.1";
  int64_t metrics_port = 8002;
  bool metrics = true;
  bool reflection = true;

  int64_t grpc_max_recv_bytes = 16 << 20;
  int64_t grpc_max_concurrent_streams = 1024;
  double grpc_keepalive_time = 60;
  double grpc_keepalive_timeout = 20;
  int64_t grpc_memory_bytes = 512 << 20;
  double grpc_self_ping = 0.2;  // seconds; 0: off

  double max_request_seconds = 0;
  double client_stall_timeout = 60;
  double engine_stall_timeout = 120;
  double shutdown_timeout = 45;

  std::string log_level = "info";
  std::string log_format = "text";
  bool log_requests = true;
  bool log_stats = true;
};

// What the command line asks for instead of serving.
enum class Action { kServe, kPrintConfig, kCheckConfig, kHealthCheck, kVersion, kHelp };

// Where a value comes from, for --print-config.
struct OptionValue {
  std::string name;
  std::string value;
  std::string origin;  // "default", "file FILE", "environment ENGRAM_X", "command line"
};

struct ParsedOptions {
  Options options;
  Action action = Action::kServe;
  std::string health_address;  // of kHealthCheck
  std::string help;            // of kHelp
  std::vector<OptionValue> values;
};

// `environment` looks a variable up; null when unset.
using Environment = std::function<const char*(const char*)>;

// INVALID_ARGUMENT names the flag, variable or file and key, and the nearest flag to an unknown
// one; NOT_FOUND a missing --config file.
memory::Result<ParsedOptions> parse_options(
    const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace engram::server

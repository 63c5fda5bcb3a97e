// The flags of an engine in this process, by their names in engramd and vLLM.
#pragma once

#include <string>

#include "engine/run/engine.h"
#include "memory/base/status.h"

namespace CLI {
class App;
}

namespace engram::tools::bench {

struct EngineFlags {
  engine::EngineOptions options;
  // As on the command line.
  std::string kv_cache_memory;
  std::string table_cache;
  std::string numa_policy;
};

void add_engine_flags(CLI::App& command, EngineFlags* flags);

// Reads what is text; INVALID_ARGUMENT names the flag.
memory::Status check_engine_flags(EngineFlags* flags);

}  // namespace engram::tools::bench

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

// --kv-cache-dtype and --table-codec, in the same group as the command's own flags.
void add_type_options(CLI::App& command, std::string* kv_cache_dtype, std::string* table_codec);

// Reads what is text; INVALID_ARGUMENT names the flag.
memory::Status check_engine_flags(EngineFlags* flags);

}  // namespace engram::tools::bench

// The server's log: text or JSON lines on standard error, written by a thread of its own that
// drops the oldest lines when it cannot keep up. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "memory/base/status.h"

namespace engram::server {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

using LogValue = std::variant<std::string, int64_t, double>;
using LogFields = std::vector<std::pair<const char*, LogValue>>;

// INVALID_ARGUMENT for a level other than debug, info, warning, error or a format other than text,
// json. Before the first line; without it lines go out as text from level info.
memory::Status start_logging(const std::string& level, const std::string& format);
// Sends gRPC's own messages to level debug here, unless GRPC_VERBOSITY asks for them. Before the
// first use of gRPC.
void quiet_grpc();
// Writes what is queued. Lines after it are lost.
void stop_logging();

void log_line(LogLevel level, const std::string& message, const LogFields& fields);
void log_info(const std::string& message);
void log_warning(const std::string& message);
void log_error(const std::string& message);

}  // namespace engram::server

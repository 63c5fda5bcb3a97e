#include "server/log.h"

#include <grpc/support/log.h>
#include <spdlog/async.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace engram::server {
namespace {

constexpr size_t kQueueLines = 8192;

bool as_json = false;

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string number_text(double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

// Also for text: a log line is one line whatever a client puts into its fields.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char code[8];
      std::snprintf(code, sizeof(code), "\\u%04x", byte);
      out += code;
    } else {
      out += c;
    }
  }
  return out;
}

std::string value_text(const LogValue& value) {
  if (const int64_t* integer = std::get_if<int64_t>(&value)) return std::to_string(*integer);
  if (const double* number = std::get_if<double>(&value)) return number_text(*number);
  const std::string& text = std::get<std::string>(value);
  const bool plain = !text.empty() && text.find_first_of(" \"=\n\t") == std::string::npos;
  if (plain && !as_json) return escaped(text);
  return '"' + escaped(text) + '"';
}

std::string compose(const std::string& message, const LogFields& fields) {
  std::string line = as_json ? "\"message\":\"" + escaped(message) + '"' : message;
  for (const auto& [name, value] : fields) {
    line += as_json ? std::string(",\"") + name + "\":" : std::string(" ") + name + "=";
    line += value_text(value);
  }
  return line;
}

}  // namespace

memory::Status start_logging(const std::string& level, const std::string& format) {
  spdlog::level::level_enum least = spdlog::level::info;
  if (level == "debug") {
    least = spdlog::level::debug;
  } else if (level == "warning") {
    least = spdlog::level::warn;
  } else if (level == "error") {
    least = spdlog::level::err;
  } else if (level != "info") {
    return memory::invalid_argument(
        "--log-level must be debug, info, warning or error, got \"" + level + "\"");
  }
  if (format != "text" && format != "json") {
    return memory::invalid_argument("--log-format must be text or json, got \"" + format + "\"");
  }
  as_json = format == "json";
  spdlog::init_thread_pool(kQueueLines, 1);
  auto logger = std::make_shared<spdlog::async_logger>(
      "engramd", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(), spdlog::thread_pool(),
      spdlog::async_overflow_policy::overrun_oldest);
  logger->set_level(least);
  logger->set_pattern(
      as_json ? R"({"ts":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
              : "%Y-%m-%d %H:%M:%S.%e %^%-7l%$ %v");
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
  return {};
}

void quiet_grpc() {
  if (std::getenv("GRPC_VERBOSITY") != nullptr) return;
  gpr_set_log_function([](gpr_log_func_args* args) {
    log_line(LogLevel::kDebug, "grpc", {{"text", std::string(args->message)}});
  });
}

void stop_logging() {
  spdlog::shutdown();
}

void log_line(LogLevel level, const std::string& message, const LogFields& fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  const spdlog::level::level_enum wanted = level_of(level);
  if (logger == nullptr || !logger->should_log(wanted)) return;
  logger->log(wanted, spdlog::string_view_t(compose(message, fields)));
}

void log_info(const std::string& message) {
  log_line(LogLevel::kInfo, message, {});
}
void log_warning(const std::string& message) {
  log_line(LogLevel::kWarning, message, {});
}
void log_error(const std::string& message) {
  log_line(LogLevel::kError, message, {});
}

}  // namespace engram::server

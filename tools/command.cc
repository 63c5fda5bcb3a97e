#include "tools/command.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

namespace engram::tools {
namespace {

constexpr int kMostReceiveBytes = 32 << 20;
// What a shell leaves as it is.
constexpr const char* kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,.:/@%^";

const char* name_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::CANCELLED:
      return "CANCELLED";
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "INVALID_ARGUMENT";
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return "DEADLINE_EXCEEDED";
    case grpc::StatusCode::NOT_FOUND:
      return "NOT_FOUND";
    case grpc::StatusCode::ALREADY_EXISTS:
      return "ALREADY_EXISTS";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "RESOURCE_EXHAUSTED";
    case grpc::StatusCode::FAILED_PRECONDITION:
      return "FAILED_PRECONDITION";
    case grpc::StatusCode::UNIMPLEMENTED:
      return "UNIMPLEMENTED";
    case grpc::StatusCode::INTERNAL:
      return "INTERNAL";
    case grpc::StatusCode::UNAVAILABLE:
      return "UNAVAILABLE";
    default:
      return "error";
  }
}

}  // namespace

void add_server_option(CLI::App& command, std::string* server) {
  *server = "127.0.0.1:8001";
  command.add_option("--server", *server, "HOST:PORT of engramd [127.0.0.1:8001]")
      ->envname("ENGRAM_SERVER");
}

bool parse_ids(const std::string& text, std::vector<uint32_t>* ids) {
  const char* at = text.data();
  const char* end = at + text.size();
  while (true) {
    uint32_t id = 0;
    const std::from_chars_result read = std::from_chars(at, end, id);
    if (read.ec != std::errc()) return false;
    ids->push_back(id);
    if (read.ptr == end) return true;
    if (*read.ptr != ',') return false;
    at = read.ptr + 1;
  }
}

std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line;
  std::string word;
  while (std::getline(file, word, '\0')) {
    const bool plain = !word.empty() && word.find_first_not_of(kPlain) == std::string::npos;
    if (!line.empty()) line += ' ';
    if (plain) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

std::string read_input() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

std::shared_ptr<grpc::ChannelInterface> connect(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMostReceiveBytes);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

int report_failure(const grpc::Status& status, const std::string& server) {
  // A server says why it is unavailable in the details; without them nobody answered.
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && status.error_details().empty()) {
    std::fprintf(
        stderr, "engram: no server at %s (%s)\n", server.c_str(), status.error_message().c_str());
    return kUnreachable;
  }
  std::string field;
  google::rpc::Status details;
  google::rpc::BadRequest bad;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) {
      if (!detail.UnpackTo(&bad) || bad.field_violations_size() == 0) continue;
      field = bad.field_violations(0).field();
    }
  }
  std::fprintf(
      stderr, "engram: %s: %s%s\n", name_of(status.error_code()), status.error_message().c_str(),
      field.empty() ? "" : (" [field " + field + "]").c_str());
  return kFailed;
}

int report_usage(const std::string& message) {
  std::fprintf(stderr, "engram: %s\n", message.c_str());
  return kUsage;
}

}  // namespace engram::tools

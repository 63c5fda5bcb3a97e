#include "memory/base/status.h"

#include <cstdio>
#include <cstdlib>

namespace engram::memory {

const char* code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "OK";
    case Code::kCancelled:
      return "CANCELLED";
    case Code::kInvalidArgument:
      return "INVALID_ARGUMENT";
    case Code::kDeadlineExceeded:
      return "DEADLINE_EXCEEDED";
    case Code::kNotFound:
      return "NOT_FOUND";
    case Code::kAlreadyExists:
      return "ALREADY_EXISTS";
    case Code::kPermissionDenied:
      return "PERMISSION_DENIED";
    case Code::kResourceExhausted:
      return "RESOURCE_EXHAUSTED";
    case Code::kFailedPrecondition:
      return "FAILED_PRECONDITION";
    case Code::kUnimplemented:
      return "UNIMPLEMENTED";
    case Code::kInternal:
      return "INTERNAL";
    case Code::kUnavailable:
      return "UNAVAILABLE";
    case Code::kDataLoss:
      return "DATA_LOSS";
  }
  return "UNKNOWN";
}

std::string Status::to_string() const {
  return ok() ? "OK" : std::string(code_name(code_)) + ": " + message_;
}

void die(const char* what, std::source_location at) {
  std::fprintf(
      stderr, "FATAL %s:%u in %s: %s\n", at.file_name(), static_cast<unsigned>(at.line()),
      at.function_name(), what);
  std::fflush(stderr);
  std::abort();
}

}  // namespace engram::memory

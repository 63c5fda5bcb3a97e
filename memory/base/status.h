// Operating errors as values, and the check for bugs.
//
// Status carries a code with gRPC's number and a message that names the object, what was expected
// and what was found. Result<T> is a value or a Status. Neither throws. ENGRAM_CHECK is for bugs
// only: it logs and aborts, and must never be reachable from a file or a request.
#pragma once

#include <optional>
#include <source_location>
#include <string>
#include <utility>

namespace engram::memory {

// Numbers are gRPC's, so a service can pass them on.
enum class Code {
  kOk = 0,
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
};

const char* code_name(Code code);  // "INVALID_ARGUMENT"

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  std::string to_string() const;  // "INVALID_ARGUMENT: message", or "OK"

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status invalid_argument(std::string message) {
  return {Code::kInvalidArgument, std::move(message)};
}
inline Status not_found(std::string message) {
  return {Code::kNotFound, std::move(message)};
}
inline Status failed_precondition(std::string message) {
  return {Code::kFailedPrecondition, std::move(message)};
}
inline Status unimplemented(std::string message) {
  return {Code::kUnimplemented, std::move(message)};
}
inline Status resource_exhausted(std::string message) {
  return {Code::kResourceExhausted, std::move(message)};
}
inline Status data_loss(std::string message) {
  return {Code::kDataLoss, std::move(message)};
}
inline Status internal(std::string message) {
  return {Code::kInternal, std::move(message)};
}
inline Status unavailable(std::string message) {
  return {Code::kUnavailable, std::move(message)};
}

[[noreturn]] void die(const char* what, std::source_location at);

#define ENGRAM_CHECK(condition) \
  ((condition)                  \
       ? void()                 \
       : ::engram::memory::die("check failed: " #condition, std::source_location::current()))

#define ENGRAM_RETURN_IF_ERROR(expression)                                            \
  do {                                                                                \
    if (::engram::memory::Status engram_status = (expression); !engram_status.ok()) { \
      return engram_status;                                                           \
    }                                                                                 \
  } while (false)

// A value or the reason why there is none. value() of an error is a bug.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit, as in return x;
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit
    ENGRAM_CHECK(!status_.ok());
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    ENGRAM_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    ENGRAM_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    ENGRAM_CHECK(ok());
    return *std::move(value_);
  }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace engram::memory

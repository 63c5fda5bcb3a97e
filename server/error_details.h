// From a Status to what goes over the wire: gRPC's code and message, and the google.rpc details
// that programs read (grpc-status-details-bin).
#pragma once

#include <cstddef>
#include <string>

#include "memory/base/status.h"

namespace grpc {
class Status;
}

namespace engram::server {

// Why a call was not served: a Status and, for INVALID_ARGUMENT, the path of the field as written
// in the proto ("sampling.top_p").
struct CallError {
  memory::Status status;
  std::string field;

  bool ok() const { return status.ok(); }
};

// At most `bytes` of a text, cut between two code points: for what clients put into messages.
std::string cut_text(const std::string& text, size_t bytes);

// The path in CompleteRequest of the field that an engine's INVALID_ARGUMENT begins with ("top_p
// must be ..."), or "" when it names none.
std::string field_of_message(const std::string& message);

// BadRequest for INVALID_ARGUMENT, RetryInfo for RESOURCE_EXHAUSTED and UNAVAILABLE, ResourceInfo
// for NOT_FOUND, ErrorInfo for the rest. Messages are cut at 4 KiB.
grpc::Status to_grpc(const CallError& error);

}  // namespace engram::server

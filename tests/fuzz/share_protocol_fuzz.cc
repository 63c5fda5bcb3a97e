// Any bytes as a request to a table daemon or, by the first byte, as its reply. What is accepted
// means exactly what its bytes say: it encodes to them again.
#include <cstdint>
#include <span>
#include <string>

#include "memory/base/status.h"
#include "memory/table/share_protocol.h"

namespace {

using engram::memory::Result;
using engram::memory::ShareReply;
using engram::memory::ShareRequest;

void check_same(const std::string& encoded, std::span<const uint8_t> message) {
  ENGRAM_CHECK(encoded.size() == message.size());
  for (size_t i = 0; i < encoded.size(); ++i) {
    const bool version = i == 4 || i == 5;  // errors of every version are understood
    ENGRAM_CHECK(version || static_cast<uint8_t>(encoded[i]) == message[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> message(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    const Result<ShareRequest> request = engram::memory::decode_share_request(message);
    if (request.ok()) check_same(engram::memory::encode_share_request(request.value()), message);
    ENGRAM_CHECK(request.ok() || !request.status().message().empty());
  } else {
    const Result<ShareReply> reply = engram::memory::decode_share_reply(message);
    if (reply.ok()) check_same(engram::memory::encode_share_reply(reply.value()), message);
    ENGRAM_CHECK(reply.ok() || !reply.status().message().empty());
  }
  return 0;
}

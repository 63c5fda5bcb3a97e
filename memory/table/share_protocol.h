// What a table daemon and its clients say to each other over a Unix socket of type SOCK_SEQPACKET,
// which keeps messages apart. A client asks, the daemon gives one reply; pages travel as file
// descriptors (SCM_RIGHTS) beside the reply kTable. Pure functions over bytes; nothing read here is
// trusted.
//
// A message, little endian:
//   u32 magic | u16 version | u16 kind | u32 bytes of the whole message | fields of its kind
//   kList    u32 index                          -> kEntry, or kError NOT_FOUND behind the last one
//   kAttach  16 hex digits, the table's id      -> kTable with descriptors, kLoading, or kError
//   kEntry   u32 index | u32 count | u8 state | u8 pages | u8 huge percent | u32 attached |
//            i64 bytes done | i64 bytes total | header | text path | text error
//   kTable   header | u32 copies | copies of (i32 node | u8 pages | u8 huge percent | i64 bytes)
//   kLoading i64 bytes done | i64 bytes total
//   kError   u32 code | text message; the same in every version
// where header is the first 4096 bytes of the table file and text is u32 length | bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/host_arena.h"

namespace engram::memory {

inline constexpr uint16_t kShareVersion = 1;
inline constexpr size_t kShareMessageLimit = 8192;  // no message is longer
inline constexpr size_t kShareCopies = 64;          // of one table at most
inline constexpr size_t kTableIdDigits = 16;

struct ListRequest {
  uint32_t index = 0;
};
struct AttachRequest {
  std::string id;
};
using ShareRequest = std::variant<ListRequest, AttachRequest>;

enum class ShareState : uint8_t { kLoading, kReady, kFailed };

const char* share_state_name(ShareState state);  // "ready"

struct ShareEntry {
  uint32_t index = 0;
  uint32_t count = 0;  // of tables
  ShareState state = ShareState::kLoading;
  PageKind pages = PageKind::kSmall;
  uint8_t huge_percent = 0;
  uint32_t attached = 0;  // connections that hold the table
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  std::string header;  // 4096 bytes
  std::string path;
  std::string error;  // kFailed: why
};
struct ShareCopy {
  int32_t node = -1;  // NUMA node it is bound to; -1: none
  PageKind pages = PageKind::kSmall;
  uint8_t huge_percent = 0;
  int64_t mapped_bytes = 0;  // of the descriptor at the same index
};
struct ShareTable {
  std::string header;  // 4096 bytes
  std::vector<ShareCopy> copies;
};
struct ShareLoading {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};
using ShareReply = std::variant<ShareEntry, ShareTable, ShareLoading, Status>;

// Texts that would not fit are cut.
std::string encode_share_request(const ShareRequest& request);
std::string encode_share_reply(const ShareReply& reply);

// INVALID_ARGUMENT names the field. FAILED_PRECONDITION: another version of the protocol. What is
// accepted encodes to the same bytes again.
Result<ShareRequest> decode_share_request(std::span<const uint8_t> message);
Result<ShareReply> decode_share_reply(std::span<const uint8_t> message);

bool is_table_id(std::string_view text);  // 16 of 0-9 a-f

}  // namespace engram::memory

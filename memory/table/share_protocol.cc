#include "memory/table/share_protocol.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <utility>

#include "memory/table/table_header.h"

namespace engram::memory {
namespace {

constexpr uint32_t kMagic = 0x53475445;  // "ETGS"
constexpr size_t kTextLimit = 1024;
constexpr size_t kHeaderBytes = kTableBlock;

enum Kind : uint16_t {
  kList = 1,
  kAttach = 2,
  kEntry = 3,
  kTable = 4,
  kLoading = 5,
  kError = 6,
};

// The enumerators are sent, so their order is part of the protocol.
static_assert(static_cast<int>(PageKind::kHugetlb1G) == 0);
static_assert(static_cast<int>(PageKind::kSmall) == 3);

class Writer {
 public:
  explicit Writer(Kind kind) {
    number<uint32_t>(kMagic);
    number<uint16_t>(kShareVersion);
    number<uint16_t>(kind);
    number<uint32_t>(0);  // the length, when it is known
  }

  template <typename T>
  void number(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes_.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
    }
  }
  void raw(std::string_view bytes) { bytes_.append(bytes); }
  void text(std::string_view text) {
    const std::string_view cut = text.substr(0, kTextLimit);
    number<uint32_t>(static_cast<uint32_t>(cut.size()));
    raw(cut);
  }
  std::string finish() && {
    ENGRAM_CHECK(bytes_.size() <= kShareMessageLimit);
    const uint32_t length = static_cast<uint32_t>(bytes_.size());
    for (size_t i = 0; i < 4; ++i) bytes_[8 + i] = static_cast<char>(length >> (8 * i));
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// Reads fields one after the other; the first that is missing or wrong ends it.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <typename T>
  T number(const char* field) {
    std::make_unsigned_t<T> value = 0;
    if (!has(sizeof(T), field)) return 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<std::make_unsigned_t<T>>(
          value | (static_cast<std::make_unsigned_t<T>>(bytes_[at_ + i]) << (8 * i)));
    }
    at_ += sizeof(T);
    return static_cast<T>(value);
  }
  template <typename T>
  T number_up_to(const char* field, T most) {
    const T value = number<T>(field);
    if (value < 0 || value > most) wrong(field, std::to_string(value));
    return ok() ? value : T{0};
  }
  std::string raw(const char* field, size_t count) {
    if (!has(count, field)) return "";
    const std::string bytes(reinterpret_cast<const char*>(bytes_.data()) + at_, count);
    at_ += count;
    return bytes;
  }
  std::string text(const char* field) {
    return raw(field, number_up_to<uint32_t>(field, kTextLimit));
  }
  void wrong(const char* field, const std::string& found) {
    if (ok()) error_ = std::string("message: ") + field + ": unexpected " + found;
  }
  bool ok() const { return error_.empty(); }
  Status finish() {
    if (ok() && at_ != bytes_.size()) wrong("length", std::to_string(bytes_.size()) + " bytes");
    return ok() ? Status() : invalid_argument(error_);
  }

 private:
  bool has(size_t count, const char* field) {
    if (!ok()) return false;
    if (bytes_.size() - at_ >= count) return true;
    wrong(field, "end after " + std::to_string(bytes_.size()) + " bytes");
    return false;
  }

  const std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  std::string error_;
};

constexpr int64_t kMaxBytes = int64_t{1} << 62;

template <typename Enum>
Enum read_enum(Reader& reader, const char* field, Enum last) {
  return static_cast<Enum>(reader.number_up_to<uint8_t>(field, static_cast<uint8_t>(last)));
}

// The kind; every field behind the prelude is left to the caller.
uint16_t read_prelude(Reader& reader, size_t size, uint16_t* version) {
  if (size > kShareMessageLimit) reader.wrong("length", std::to_string(size) + " bytes");
  if (reader.number<uint32_t>("magic") != kMagic) reader.wrong("magic", "number");
  *version = reader.number<uint16_t>("version");
  const uint16_t kind = reader.number<uint16_t>("kind");
  const uint32_t length = reader.number<uint32_t>("length");
  if (length != size) reader.wrong("length", std::to_string(length));
  return kind;
}

Status other_version(uint16_t found) {
  return failed_precondition(
      "table sharing protocol: version " + std::to_string(kShareVersion) + " expected, " +
      std::to_string(found) + " found; daemon and server are of different releases");
}

std::string write(const ShareEntry& e) {
  Writer writer(kEntry);
  writer.number<uint32_t>(e.index);
  writer.number<uint32_t>(e.count);
  writer.number<uint8_t>(static_cast<uint8_t>(e.state));
  writer.number<uint8_t>(static_cast<uint8_t>(e.pages));
  writer.number<uint8_t>(e.huge_percent);
  writer.number<uint32_t>(e.attached);
  writer.number<int64_t>(e.bytes_done);
  writer.number<int64_t>(e.bytes_total);
  ENGRAM_CHECK(e.header.size() == kHeaderBytes);
  writer.raw(e.header);
  writer.text(e.path);
  writer.text(e.error);
  return std::move(writer).finish();
}

ShareEntry read_entry(Reader& reader) {
  ShareEntry e;
  e.index = reader.number<uint32_t>("index");
  e.count = reader.number<uint32_t>("count");
  e.state = read_enum(reader, "state", ShareState::kFailed);
  e.pages = read_enum(reader, "pages", PageKind::kSmall);
  e.huge_percent = reader.number_up_to<uint8_t>("huge percent", 100);
  e.attached = reader.number<uint32_t>("attached");
  e.bytes_done = reader.number_up_to<int64_t>("bytes done", kMaxBytes);
  e.bytes_total = reader.number_up_to<int64_t>("bytes total", kMaxBytes);
  e.header = reader.raw("header", kHeaderBytes);
  e.path = reader.text("path");
  e.error = reader.text("error");
  return e;
}

std::string write(const ShareTable& table) {
  Writer writer(kTable);
  ENGRAM_CHECK(table.header.size() == kHeaderBytes);
  ENGRAM_CHECK(table.copies.size() <= kShareCopies);
  writer.raw(table.header);
  writer.number<uint32_t>(static_cast<uint32_t>(table.copies.size()));
  for (const ShareCopy& copy : table.copies) {
    writer.number<int32_t>(copy.node);
    writer.number<uint8_t>(static_cast<uint8_t>(copy.pages));
    writer.number<uint8_t>(copy.huge_percent);
    writer.number<int64_t>(copy.mapped_bytes);
  }
  return std::move(writer).finish();
}

ShareTable read_table(Reader& reader) {
  ShareTable table;
  table.header = reader.raw("header", kHeaderBytes);
  const uint32_t copies = reader.number_up_to<uint32_t>("copies", kShareCopies);
  if (reader.ok() && copies == 0) reader.wrong("copies", "0");
  for (uint32_t i = 0; i < copies && reader.ok(); ++i) {
    ShareCopy copy;
    copy.node = reader.number<int32_t>("node");
    if (copy.node < -1) reader.wrong("node", std::to_string(copy.node));
    copy.pages = read_enum(reader, "pages", PageKind::kSmall);
    copy.huge_percent = reader.number_up_to<uint8_t>("huge percent", 100);
    copy.mapped_bytes = reader.number_up_to<int64_t>("bytes", kMaxBytes);
    table.copies.push_back(copy);
  }
  return table;
}

std::string write(const ShareLoading& loading) {
  Writer writer(kLoading);
  writer.number<int64_t>(loading.bytes_done);
  writer.number<int64_t>(loading.bytes_total);
  return std::move(writer).finish();
}

ShareLoading read_loading(Reader& reader) {
  ShareLoading loading;
  loading.bytes_done = reader.number_up_to<int64_t>("bytes done", kMaxBytes);
  loading.bytes_total = reader.number_up_to<int64_t>("bytes total", kMaxBytes);
  return loading;
}

std::string write(const Status& error) {
  ENGRAM_CHECK(!error.ok());
  Writer writer(kError);
  writer.number<uint32_t>(static_cast<uint32_t>(error.code()));
  writer.text(error.message());
  return std::move(writer).finish();
}

Status read_error(Reader& reader) {
  const uint32_t code = reader.number<uint32_t>("code");
  std::string message = reader.text("message");
  // A later version may know more codes; the message is what counts.
  static constexpr Code kKnown[] = {
      Code::kCancelled,         Code::kInvalidArgument,    Code::kDeadlineExceeded,
      Code::kNotFound,          Code::kAlreadyExists,      Code::kPermissionDenied,
      Code::kResourceExhausted, Code::kFailedPrecondition, Code::kUnimplemented,
      Code::kInternal,          Code::kUnavailable,        Code::kDataLoss};
  for (const Code known : kKnown) {
    if (static_cast<uint32_t>(known) == code) return {known, std::move(message)};
  }
  reader.wrong("code", std::to_string(code));
  return internal("unknown");
}

}  // namespace

const char* share_state_name(ShareState state) {
  switch (state) {
    case ShareState::kLoading:
      return "loading";
    case ShareState::kReady:
      return "ready";
    case ShareState::kFailed:
      break;
  }
  return "failed";
}

bool is_table_id(std::string_view text) {
  return text.size() == kTableIdDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string encode_share_request(const ShareRequest& request) {
  if (const ListRequest* list = std::get_if<ListRequest>(&request)) {
    Writer writer(kList);
    writer.number<uint32_t>(list->index);
    return std::move(writer).finish();
  }
  const AttachRequest& attach = std::get<AttachRequest>(request);
  ENGRAM_CHECK(is_table_id(attach.id));
  Writer writer(kAttach);
  writer.raw(attach.id);
  return std::move(writer).finish();
}

std::string encode_share_reply(const ShareReply& reply) {
  return std::visit([](const auto& message) { return write(message); }, reply);
}

Result<ShareRequest> decode_share_request(std::span<const uint8_t> message) {
  Reader reader(message);
  uint16_t version = 0;
  const uint16_t kind = read_prelude(reader, message.size(), &version);
  if (reader.ok() && version != kShareVersion) return other_version(version);
  ShareRequest request;
  if (kind == kList) {
    request = ListRequest{reader.number<uint32_t>("index")};
  } else if (kind == kAttach) {
    AttachRequest attach{reader.raw("id", kTableIdDigits)};
    if (!is_table_id(attach.id)) reader.wrong("id", "characters");
    request = std::move(attach);
  } else {
    reader.wrong("kind", std::to_string(kind));
  }
  ENGRAM_RETURN_IF_ERROR(reader.finish());
  return request;
}

Result<ShareReply> decode_share_reply(std::span<const uint8_t> message) {
  Reader reader(message);
  uint16_t version = 0;
  const uint16_t kind = read_prelude(reader, message.size(), &version);
  if (reader.ok() && version != kShareVersion && kind != kError) return other_version(version);
  ShareReply reply;
  switch (kind) {
    case kEntry:
      reply = read_entry(reader);
      break;
    case kTable:
      reply = read_table(reader);
      break;
    case kLoading:
      reply = read_loading(reader);
      break;
    case kError:
      reply = read_error(reader);
      break;
    default:
      reader.wrong("kind", std::to_string(kind));
  }
  ENGRAM_RETURN_IF_ERROR(reader.finish());
  return reply;
}

}  // namespace engram::memory

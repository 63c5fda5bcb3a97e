#include "memory/table/table_journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "memory/base/checksum.h"
#include "memory/io/file.h"
#include "memory/io/file_write.h"
#include "memory/table/table_header.h"

namespace engram::memory {
namespace {

constexpr char kMagic[8] = {'E', 'N', 'G', 'R', 'J', 'N', 'L', '1'};
constexpr size_t kRecordBytes = 24;
constexpr int64_t kMaxJournalBytes = int64_t{1} << 30;
constexpr size_t kMaxSourceBytes = 1 << 20;

void append_number(std::string* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i, value >>= 8) out->push_back(static_cast<char>(value));
}

uint64_t number_at(const std::string& text, size_t at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(text[at + i]);
  return value;
}

std::string encode_subject(const TableJournal::Subject& subject) {
  std::string out(kMagic, sizeof(kMagic));
  append_number(&out, subject.source.size(), 4);
  out += subject.source + subject.header;
  append_number(&out, checksum64(out.data(), static_cast<int64_t>(out.size())), 8);
  return out;
}

// Bytes of the subject at the beginning of `text`; 0 when it is not whole.
size_t decode_subject(const std::string& text, TableJournal::Subject* subject) {
  const size_t fixed = sizeof(kMagic) + 4;
  if (text.size() < fixed || std::memcmp(text.data(), kMagic, sizeof(kMagic)) != 0) return 0;
  const size_t source_bytes = static_cast<size_t>(number_at(text, sizeof(kMagic), 4));
  const size_t end = fixed + source_bytes + static_cast<size_t>(kTableBlock);
  if (source_bytes > kMaxSourceBytes || text.size() < end + 8) return 0;
  if (checksum64(text.data(), static_cast<int64_t>(end)) != number_at(text, end, 8)) return 0;
  subject->source = text.substr(fixed, source_bytes);
  subject->header = text.substr(fixed + source_bytes, static_cast<size_t>(kTableBlock));
  return end + 8;
}

void append_record(std::string* out, const JournalRecord& record) {
  const size_t begin = out->size();
  append_number(out, static_cast<uint64_t>(record.extent), 8);
  append_number(out, record.checksum, 8);
  append_number(out, checksum64(out->data() + begin, 16), 8);
}

bool decode_record(const std::string& text, size_t at, JournalRecord* record) {
  if (text.size() - at < kRecordBytes) return false;
  if (checksum64(text.data() + at, 16) != number_at(text, at + 16, 8)) return false;
  record->extent = static_cast<int64_t>(number_at(text, at, 8));
  record->checksum = number_at(text, at + 8, 8);
  return true;
}

}  // namespace

TableJournal::TableJournal(TableJournal&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      end_(other.end_),
      path_(std::move(other.path_)) {}

TableJournal& TableJournal::operator=(TableJournal&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(end_, other.end_);
  std::swap(path_, other.path_);
  return *this;
}

TableJournal::~TableJournal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<TableJournal> TableJournal::create(const std::string& path, const Subject& subject) {
  ENGRAM_CHECK(subject.header.size() == static_cast<size_t>(kTableBlock));
  ENGRAM_CHECK(subject.source.size() <= kMaxSourceBytes);
  TableJournal journal;
  journal.path_ = path;
  journal.descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (journal.descriptor_ < 0) return write_error(path, "creating", errno);
  const std::string text = encode_subject(subject);
  journal.end_ = static_cast<int64_t>(text.size());
  ENGRAM_RETURN_IF_ERROR(write_at(journal.descriptor_, path, text.data(), journal.end_, 0));
  ENGRAM_RETURN_IF_ERROR(sync_data(journal.descriptor_, path));
  ENGRAM_RETURN_IF_ERROR(sync_directory_of(path));
  return journal;
}

Result<TableJournal> TableJournal::open(
    const std::string& path, Subject* subject, std::vector<JournalRecord>* records) {
  const Result<std::string> text = read_text_file(path, kMaxJournalBytes);
  if (!text.ok()) return text.status();
  size_t end = decode_subject(text.value(), subject);
  if (end == 0) return not_found(path + ": its beginning was never finished");
  JournalRecord record;
  for (; decode_record(text.value(), end, &record); end += kRecordBytes) {
    records->push_back(record);
  }
  TableJournal journal;
  journal.path_ = path;
  journal.descriptor_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (journal.descriptor_ < 0) return write_error(path, "opening", errno);
  if (::ftruncate(journal.descriptor_, static_cast<off_t>(end)) != 0) {
    return write_error(path, "truncating", errno);
  }
  journal.end_ = static_cast<int64_t>(end);
  return journal;
}

Status TableJournal::append(const std::vector<JournalRecord>& records) {
  std::string text;
  for (const JournalRecord& record : records) append_record(&text, record);
  const int64_t bytes = static_cast<int64_t>(text.size());
  ENGRAM_RETURN_IF_ERROR(write_at(descriptor_, path_, text.data(), bytes, end_));
  end_ += bytes;
  return sync_data(descriptor_, path_);
}

}  // namespace engram::memory

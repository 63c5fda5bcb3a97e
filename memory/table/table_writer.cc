#include "memory/table/table_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "memory/base/checksum.h"
#include "memory/io/direct_file.h"
#include "memory/io/file_write.h"
#include "memory/table/table_file.h"

namespace engram::memory {
namespace {

constexpr int64_t kBounceBytes = int64_t{1} << 20;

bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(kTableBlock) == 0;
}

std::string journal_path(const std::string& path) {
  return path + kUnfinishedSuffix + ".journal";
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return write_error(path, "removing", errno);
}

// What two subjects differ in, for a message.
Status check_same_subject(
    const std::string& unfinished,
    const TableJournal::Subject& found,
    const TableJournal::Subject& expected) {
  if (found == expected) return {};
  const std::string what = found.source != expected.source
                               ? "of \"" + found.source + "\", expected \"" + expected.source + "\""
                               : "with another geometry, codec, layout or extent size than now";
  return failed_precondition(
      unfinished + ": is an unfinished conversion " + what +
      "; finish that one, or remove this file and its journal");
}

}  // namespace

TableWriter::TableWriter(std::string path, TableHeader plan, TableWriterOptions options)
    : path_(std::move(path)),
      unfinished_(path_ + kUnfinishedSuffix),
      plan_(std::move(plan)),
      options_(std::move(options)),
      checksums_(static_cast<size_t>(plan_.extents())),
      written_(static_cast<size_t>(plan_.extents())) {}

TableWriter::~TableWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<std::unique_ptr<TableWriter>> TableWriter::create(
    const std::string& path, const TableHeader& plan, const TableWriterOptions& options) {
  std::unique_ptr<TableWriter> writer(new TableWriter(path, plan, options));
  ENGRAM_RETURN_IF_ERROR(writer->open());
  return writer;
}

Status TableWriter::discard(const std::string& path) {
  // The journal first: without it nothing of the data is trusted.
  ENGRAM_RETURN_IF_ERROR(remove_file(journal_path(path)));
  ENGRAM_RETURN_IF_ERROR(sync_directory_of(path));
  return remove_file(path + kUnfinishedSuffix);
}

Status TableWriter::open() {
  if (!options_.replace && exists(path_)) {
    return {Code::kAlreadyExists, path_ + ": exists"};
  }
  const Result<std::string> header = encode_table_header(plan_);
  if (!header.ok()) return header.status();
  const TableJournal::Subject subject{options_.source, header.value()};
  ENGRAM_RETURN_IF_ERROR(open_unfinished());
  bool resumed = false;
  ENGRAM_RETURN_IF_ERROR(resume(subject, &resumed));
  return resumed ? Status() : start_fresh(subject);
}

Status TableWriter::open_unfinished() {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC;
  if (options_.direct) {
    descriptor_ = ::open(unfinished_.c_str(), flags | O_DIRECT, 0666);
    if (descriptor_ < 0 && errno != EINVAL) return write_error(unfinished_, "creating", errno);
    // A device with blocks above 4096 bytes needs more alignment than a table file has.
    const Result<DirectFile> probe = DirectFile::open(unfinished_);
    direct_ = descriptor_ >= 0 && probe.ok() && probe.value().alignment() <= kTableBlock;
    if (!direct_ && descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  if (descriptor_ < 0) descriptor_ = ::open(unfinished_.c_str(), flags, 0666);
  if (descriptor_ < 0) return write_error(unfinished_, "creating", errno);
  struct stat mine {};
  struct stat named {};
  // The second check: its owner may have finished and renamed it between our open and our lock.
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 || ::fstat(descriptor_, &mine) != 0 ||
      ::stat(unfinished_.c_str(), &named) != 0 || mine.st_ino != named.st_ino) {
    return failed_precondition(unfinished_ + ": another process is writing it");
  }
  return {};
}

Status TableWriter::resume(const TableJournal::Subject& subject, bool* resumed) {
  TableJournal::Subject found;
  std::vector<JournalRecord> records;
  Result<TableJournal> journal = TableJournal::open(journal_path(path_), &found, &records);
  if (journal.status().code() == Code::kNotFound) return {};
  if (!journal.ok()) return journal.status();
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) return write_error(unfinished_, "fstat", errno);
  // A journal begins after its file has its size. Without that the file is not the journal's.
  if (info.st_size == 0) return {};
  ENGRAM_RETURN_IF_ERROR(check_same_subject(unfinished_, found, subject));
  if (info.st_size != plan_.file_bytes()) return {};
  for (const JournalRecord& record : records) {
    if (record.extent < 0 || record.extent >= plan_.extents()) {
      return data_loss(
          journal_path(path_) + ": names extent " + std::to_string(record.extent) + " of " +
          std::to_string(plan_.extents()) + "; remove it to start again");
    }
    const size_t extent = static_cast<size_t>(record.extent);
    extents_resumed_ += written_[extent] ? 0 : 1;
    written_[extent] = true;
    checksums_[extent] = record.checksum;
  }
  journal_ = std::move(journal).value();
  *resumed = true;
  return {};
}

Status TableWriter::start_fresh(const TableJournal::Subject& subject) {
  ENGRAM_RETURN_IF_ERROR(remove_file(journal_path(path_)));
  ENGRAM_RETURN_IF_ERROR(sync_directory_of(path_));
  const off_t bytes = static_cast<off_t>(plan_.file_bytes());
  if (::ftruncate(descriptor_, 0) != 0) return write_error(unfinished_, "truncating", errno);
  if (options_.preallocate && ::fallocate(descriptor_, 0, 0, bytes) != 0 && errno != EOPNOTSUPP) {
    const Status status = write_error(
        unfinished_, "reserving " + std::to_string(plan_.file_bytes()) + " bytes", errno);
    (void)remove_file(unfinished_);  // there is nothing in it to go on from
    return status;
  }
  if (::ftruncate(descriptor_, bytes) != 0) return write_error(unfinished_, "extending", errno);
  if (::fsync(descriptor_) != 0) return write_error(unfinished_, "fsync", errno);
  Result<TableJournal> journal = TableJournal::create(journal_path(path_), subject);
  if (!journal.ok()) return journal.status();
  journal_ = std::move(journal).value();
  return {};
}

bool TableWriter::written(int64_t extent) const {
  ENGRAM_CHECK(extent >= 0);
  ENGRAM_CHECK(extent < plan_.extents());
  const std::lock_guard<std::mutex> lock(mu_);
  return written_[static_cast<size_t>(extent)];
}

Status TableWriter::write(const void* data, int64_t bytes, int64_t offset) {
  if (!direct_ || aligned(data)) return write_at(descriptor_, unfinished_, data, bytes, offset);
  void* bounce = std::aligned_alloc(kTableBlock, kBounceBytes);
  ENGRAM_CHECK(bounce != nullptr);
  Status status;
  for (int64_t done = 0; done < bytes && status.ok(); done += kBounceBytes) {
    const int64_t part = std::min(kBounceBytes, bytes - done);
    std::memcpy(bounce, static_cast<const char*>(data) + done, static_cast<size_t>(part));
    status = write_at(descriptor_, unfinished_, bounce, part, offset + done);
  }
  std::free(bounce);
  return status;
}

Status TableWriter::write_extent(int64_t extent, const void* data) {
  ENGRAM_CHECK(!written(extent));
  const int64_t bytes = plan_.extent_size(extent);
  const uint64_t checksum = checksum64(data, bytes);
  ENGRAM_RETURN_IF_ERROR(write(data, bytes, plan_.data_offset + plan_.extent_at(extent)));
  bool due = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ENGRAM_RETURN_IF_ERROR(failed_);
    written_[static_cast<size_t>(extent)] = true;
    checksums_[static_cast<size_t>(extent)] = checksum;
    uncommitted_.push_back({extent, checksum});
    uncommitted_bytes_ += bytes;
    due = uncommitted_bytes_ >= options_.commit_bytes;
  }
  return due ? commit() : Status();
}

Status TableWriter::commit() {
  const std::lock_guard<std::mutex> committing(commit_mu_);
  std::vector<JournalRecord> records;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ENGRAM_RETURN_IF_ERROR(failed_);
    records.swap(uncommitted_);
    uncommitted_bytes_ = 0;
  }
  if (records.empty()) return {};
  Status status = sync_data(descriptor_, unfinished_);
  if (status.ok()) status = journal_.append(records);
  if (!direct_) (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (!status.ok()) {
    const std::lock_guard<std::mutex> lock(mu_);
    failed_ = status;
  }
  return status;
}

Result<std::string> TableWriter::finish() {
  ENGRAM_RETURN_IF_ERROR(commit());
  const auto missing = std::find(written_.begin(), written_.end(), false);
  if (missing != written_.end()) {
    return failed_precondition(
        unfinished_ + ": extent " + std::to_string(missing - written_.begin()) + " of " +
        std::to_string(plan_.extents()) + " is missing");
  }
  TableHeader header = plan_;
  const std::string checksums = encode_checksums(checksums_);
  header.checksums_hash = checksum64(checksums.data(), static_cast<int64_t>(checksums.size()));
  const Result<std::string> block = encode_table_header(header);
  if (!block.ok()) return block.status();
  ENGRAM_RETURN_IF_ERROR(publish(checksums, block.value()));
  const Result<std::shared_ptr<const TableFile>> file = TableFile::open(path_);
  if (!file.ok()) return file.status();
  return file.value()->header().id;
}

Status TableWriter::publish(const std::string& checksums, const std::string& header) {
  ENGRAM_RETURN_IF_ERROR(
      write(checksums.data(), static_cast<int64_t>(checksums.size()), plan_.checksums_offset()));
  ENGRAM_RETURN_IF_ERROR(sync_data(descriptor_, unfinished_));
  ENGRAM_RETURN_IF_ERROR(write(header.data(), static_cast<int64_t>(header.size()), 0));
  if (::fsync(descriptor_) != 0) return write_error(unfinished_, "fsync", errno);
  if (!direct_) (void)::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (::rename(unfinished_.c_str(), path_.c_str()) != 0) {
    return write_error(path_, "renaming", errno);
  }
  ENGRAM_RETURN_IF_ERROR(sync_directory_of(path_));
  ENGRAM_RETURN_IF_ERROR(remove_file(journal_path(path_)));
  return sync_directory_of(path_);
}

}  // namespace engram::memory

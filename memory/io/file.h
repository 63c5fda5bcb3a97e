// Regular files, read by position. A file that shrinks while it is open is a Status, never a
// signal: nothing here is mapped. A File may be read by many threads at once.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "memory/base/status.h"

namespace engram::memory {

class File {
 public:
  File() = default;
  File(File&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)),
        bytes_(other.bytes_),
        path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(bytes_, other.bytes_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~File();

  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for what is not a regular file.
  static Result<File> open(const std::string& path);

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }  // when it was opened
  int descriptor() const { return descriptor_; }

  // Fills to[0, bytes) from the file's byte `offset` on. DATA_LOSS when the file ends before.
  Status read(int64_t offset, int64_t bytes, void* to) const;

  // Drops the pages of the range from the page cache, so that reading a large file once does not
  // push out what others need.
  void forget(int64_t offset, int64_t bytes) const;

 private:
  int descriptor_ = -1;
  int64_t bytes_ = 0;
  std::string path_;
};

// What open() and the like found wrong with `path`, by errno.
Status open_error(const std::string& path, int error);

// The whole file; INVALID_ARGUMENT when it is larger than `limit` bytes.
Result<std::string> read_text_file(const std::string& path, int64_t limit);

}  // namespace engram::memory

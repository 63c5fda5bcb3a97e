// A regular file opened for reads that leave nothing in the page cache. Reads go through a
// ReadQueue; this object owns the descriptor and knows the alignment. Constant once open; any
// thread may use it.
//
// Where the file system refuses O_DIRECT the file is read through the page cache, and who reads
// calls forget() behind itself.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "memory/base/status.h"
#include "memory/io/file.h"

namespace engram::memory {

inline constexpr int64_t kDirectAlignment = 4096;

class DirectFile {
 public:
  DirectFile() = default;
  DirectFile(DirectFile&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)),
        bytes_(other.bytes_),
        direct_(other.direct_),
        in_memory_(other.in_memory_),
        path_(std::move(other.path_)) {}
  DirectFile& operator=(DirectFile&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(bytes_, other.bytes_);
    std::swap(direct_, other.direct_);
    std::swap(in_memory_, other.in_memory_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~DirectFile();

  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for what is not a regular file.
  static Result<DirectFile> open(const std::string& path);
  // The same without O_DIRECT: what open() does where it is refused.
  static Result<DirectFile> open_buffered(const std::string& path);

  // The very file that `file` has open, whatever has its name by now.
  static Result<DirectFile> open_again(const File& file);

  const std::string& path() const { return path_; }
  int64_t bytes() const { return bytes_; }  // when it was opened
  int64_t bytes_now() const;                // -1 when the system does not say
  // Offsets, sizes and addresses of reads are multiples of this. A device that needs larger blocks
  // is read through the page cache.
  int64_t alignment() const { return kDirectAlignment; }
  bool direct() const { return direct_; }
  bool in_memory() const { return in_memory_; }  // tmpfs and its like: no device behind it
  int descriptor() const { return descriptor_; }

  // Drops the range from the page cache; nothing to do for a direct file.
  void forget(int64_t offset, int64_t bytes) const;

 private:
  static Result<DirectFile> open_best(const std::string& path, const std::string& name);
  static Result<DirectFile> open_with(
      const std::string& path, const std::string& name, bool direct);

  int descriptor_ = -1;
  int64_t bytes_ = 0;
  bool direct_ = false;
  bool in_memory_ = false;
  std::string path_;
};

}  // namespace engram::memory

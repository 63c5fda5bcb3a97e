#include "memory/io/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "memory/io/file.h"

namespace engram::memory {
namespace {

constexpr int64_t kLeastAlignment = 4096;

// What the kernel asks of direct reads of this file; 0 where it does not say (before Linux 6.1).
int64_t kernel_alignment(int descriptor) {
#ifdef STATX_DIOALIGN
  struct statx info {};
  if (::statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0) return 0;
  if ((info.stx_mask & STATX_DIOALIGN) == 0) return 0;
  return std::max<int64_t>(info.stx_dio_mem_align, info.stx_dio_offset_align);
#else
  static_cast<void>(descriptor);
  return 0;
#endif
}

// Some file systems take the flag and refuse the first read.
bool direct_read_works(int descriptor, int64_t alignment) {
  const size_t bytes = static_cast<size_t>(alignment);
  const std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(bytes, bytes), std::free);
  if (block == nullptr) return false;
  return ::pread(descriptor, block.get(), bytes, 0) >= 0 || errno != EINVAL;
}

}  // namespace

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<DirectFile> DirectFile::open_with(const std::string& path, bool direct) {
  DirectFile file;
  // Not blocking: a pipe of that name must not hang the start.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (direct ? O_DIRECT : 0);
  file.descriptor_ = ::open(path.c_str(), flags);
  if (file.descriptor_ < 0) return open_error(path, errno);
  struct stat info {};
  if (::fstat(file.descriptor_, &info) != 0) return open_error(path, errno);
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": is not a regular file");
  // io_uring would hand EAGAIN of a non-blocking file to us instead of waiting itself.
  if (::fcntl(file.descriptor_, F_SETFL, direct ? O_DIRECT : 0) != 0) {
    return open_error(path, errno);
  }
  file.bytes_ = info.st_size;
  file.direct_ = direct;
  file.path_ = path;
  file.alignment_ = std::max(kLeastAlignment, kernel_alignment(file.descriptor_));
  return file;
}

Result<DirectFile> DirectFile::open(const std::string& path) {
  Result<DirectFile> file = open_with(path, true);
  if (file.ok() && direct_read_works(file.value().descriptor(), file.value().alignment())) {
    return file;
  }
  // What is wrong with the path itself is found again, and reported, without O_DIRECT.
  return open_with(path, false);
}

Result<DirectFile> DirectFile::open_buffered(const std::string& path) {
  return open_with(path, false);
}

int64_t DirectFile::bytes_now() const {
  struct stat info {};
  return ::fstat(descriptor_, &info) == 0 ? info.st_size : -1;
}

void DirectFile::forget(int64_t offset, int64_t bytes) const {
  // Advice: a refusal costs page cache and nothing else.
  if (!direct_) static_cast<void>(::posix_fadvise(descriptor_, offset, bytes, POSIX_FADV_DONTNEED));
}

}  // namespace engram::memory

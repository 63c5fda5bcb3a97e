#include "memory/io/direct_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

namespace engram::memory {
namespace {

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
bool direct_read_works(int descriptor) {
  if (kernel_alignment(descriptor) > kDirectAlignment) return false;
  const size_t bytes = static_cast<size_t>(kDirectAlignment);
  const std::unique_ptr<void, void (*)(void*)> block(std::aligned_alloc(bytes, bytes), std::free);
  if (block == nullptr) return false;
  return ::pread(descriptor, block.get(), bytes, 0) >= 0 || errno != EINVAL;
}

bool lies_in_memory(int descriptor) {
  struct statfs info {};
  if (::fstatfs(descriptor, &info) != 0) return false;
  return info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC ||
         static_cast<uint64_t>(info.f_type) == HUGETLBFS_MAGIC;
}

bool same_file(int a, int b) {
  struct stat of_a {};
  struct stat of_b {};
  return ::fstat(a, &of_a) == 0 && ::fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

}  // namespace

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

// `name` is what the file is called in messages.
Result<DirectFile> DirectFile::open_with(
    const std::string& path, const std::string& name, bool direct) {
  DirectFile file;
  // Not blocking: a pipe of that name must not hang the start.
  const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (direct ? O_DIRECT : 0);
  file.descriptor_ = ::open(path.c_str(), flags);
  if (file.descriptor_ < 0) return open_error(name, errno);
  struct stat info {};
  if (::fstat(file.descriptor_, &info) != 0) return open_error(name, errno);
  if (!S_ISREG(info.st_mode)) return invalid_argument(name + ": is not a regular file");
  // io_uring would hand EAGAIN of a non-blocking file to us instead of waiting itself.
  if (::fcntl(file.descriptor_, F_SETFL, direct ? O_DIRECT : 0) != 0) {
    return open_error(name, errno);
  }
  file.bytes_ = info.st_size;
  file.direct_ = direct;
  file.in_memory_ = lies_in_memory(file.descriptor_);
  file.path_ = name;
  return file;
}

Result<DirectFile> DirectFile::open_best(const std::string& path, const std::string& name) {
  Result<DirectFile> file = open_with(path, name, true);
  if (file.ok() && direct_read_works(file.value().descriptor())) return file;
  // What is wrong with the path itself is found again, and reported, without O_DIRECT.
  return open_with(path, name, false);
}

Result<DirectFile> DirectFile::open(const std::string& path) {
  return open_best(path, path);
}

Result<DirectFile> DirectFile::open_buffered(const std::string& path) {
  return open_with(path, path, false);
}

Result<DirectFile> DirectFile::open_again(const File& file) {
  Result<DirectFile> again =
      open_best("/proc/self/fd/" + std::to_string(file.descriptor()), file.path());
  // Without /proc the name has to do, if it still means the same file.
  if (!again.ok()) again = open_best(file.path(), file.path());
  if (again.ok() && !same_file(again.value().descriptor(), file.descriptor())) {
    return failed_precondition(file.path() + ": is another file than the one that was opened");
  }
  return again;
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

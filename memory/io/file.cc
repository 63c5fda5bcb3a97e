#include "memory/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace engram::memory {

Status open_error(const std::string& path, int error) {
  const std::string message = path + ": cannot be opened: " + std::strerror(error);
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return not_found(message);
    case EACCES:
    case EPERM:
      return {Code::kPermissionDenied, message};
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return resource_exhausted(message);
    default:
      return invalid_argument(message);
  }
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<File> File::open(const std::string& path) {
  File file;
  // Not blocking: a pipe of that name must not hang the start.
  file.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.descriptor_ < 0) return open_error(path, errno);
  struct stat info {};
  if (::fstat(file.descriptor_, &info) != 0) return open_error(path, errno);
  if (!S_ISREG(info.st_mode)) return invalid_argument(path + ": is not a regular file");
  file.bytes_ = info.st_size;
  file.path_ = path;
  return file;
}

Status File::read(int64_t offset, int64_t bytes, void* to) const {
  char* out = static_cast<char*>(to);
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        ::pread(descriptor_, out + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return data_loss(
          path_ + ": reading at byte " + std::to_string(offset + done) +
          " failed: " + std::strerror(errno));
    }
    if (n == 0) {
      return data_loss(
          path_ + ": ended at byte " + std::to_string(offset + done) + ", expected " +
          std::to_string(offset + bytes) + " bytes; was it changed while loading?");
    }
    done += n;
  }
  return {};
}

void File::forget(int64_t offset, int64_t bytes) const {
  // Pages that the range only touches too: those of its ends are read again by whoever needs them.
  constexpr int64_t kPage = 4096;
  const int64_t begin = offset / kPage * kPage;
  const int64_t end = (offset + bytes + kPage - 1) / kPage * kPage;
  static_cast<void>(::posix_fadvise(descriptor_, begin, end - begin, POSIX_FADV_DONTNEED));
}

Result<std::string> read_text_file(const std::string& path, int64_t limit) {
  Result<File> file = File::open(path);
  if (!file.ok()) return file.status();
  const int64_t bytes = file.value().bytes();
  if (bytes > limit) {
    return invalid_argument(
        path + ": " + std::to_string(bytes) + " bytes, expected at most " + std::to_string(limit));
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  ENGRAM_RETURN_IF_ERROR(file.value().read(0, bytes, text.data()));
  return text;
}

}  // namespace engram::memory

#include "memory/io/file_write.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace engram::memory {
namespace {

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string free_space(const std::string& path) {
  struct statvfs info {};
  if (::statvfs(directory_of(path).c_str(), &info) != 0) return "";
  return ", " + std::to_string(static_cast<uint64_t>(info.f_bavail) * info.f_frsize) +
         " bytes are free";
}

}  // namespace

Status write_error(const std::string& path, const std::string& what, int error) {
  const std::string message = path + ": " + what + " failed: " + std::strerror(error);
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return resource_exhausted(message + free_space(path));
    case EFBIG:
      return resource_exhausted(message + " (ulimit -f, or a limit of the file system)");
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return resource_exhausted(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return {Code::kPermissionDenied, message};
    case ENOENT:
    case ENOTDIR:
      return not_found(message);
    default:
      return internal(message);
  }
}

Status write_at(
    int descriptor, const std::string& path, const void* from, int64_t bytes, int64_t offset) {
  const char* in = static_cast<const char*>(from);
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t n =
        ::pwrite(descriptor, in + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return write_error(
          path, "writing at byte " + std::to_string(offset + done), n < 0 ? errno : EIO);
    }
    // A write that ended early inside a block cannot go on from there with O_DIRECT.
    const int64_t end = done + n;
    done = end == bytes ? end : std::max(done, end / 4096 * 4096);
    if (end != bytes && n < 4096) return write_error(path, "writing", ENOSPC);
  }
  return {};
}

Status sync_data(int descriptor, const std::string& path) {
  if (::fdatasync(descriptor) == 0) return {};
  return write_error(path, "fdatasync", errno);
}

Status sync_directory_of(const std::string& path) {
  const std::string directory = directory_of(path);
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return write_error(directory, "opening", errno);
  const int failed = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  return failed == 0 ? Status() : write_error(directory, "fsync", failed);
}

Status write_text_file(const std::string& path, const std::string& text) {
  const std::string unfinished = path + ".unfinished";
  const int descriptor = ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return write_error(unfinished, "creating", errno);
  Status status =
      write_at(descriptor, unfinished, text.data(), static_cast<int64_t>(text.size()), 0);
  if (status.ok()) status = sync_data(descriptor, unfinished);
  ::close(descriptor);
  if (status.ok() && std::rename(unfinished.c_str(), path.c_str()) != 0) {
    status = write_error(path, "renaming", errno);
  }
  return status.ok() ? sync_directory_of(path) : status;
}

}  // namespace engram::memory

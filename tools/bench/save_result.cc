#include "tools/bench/save_result.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "memory/io/file_write.h"

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Status;
using memory::write_error;

// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : number_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }
  bool ok() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

Status write_all(int descriptor, const std::string& path, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(descriptor, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return write_error(path, "writing", n < 0 ? errno : ENOSPC);
    text.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

// Devices and pipes: to be written as they are. A directory is neither.
bool is_special(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

Status write_special(const std::string& path, const std::string& text) {
  const Descriptor file(path, O_WRONLY);
  if (!file.ok()) return write_error(path, "opening", errno);
  return write_all(file.number(), path, text);
}

Status refuse_directory(const std::string& path) {
  struct stat info {};
  const bool directory = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  if (!path.empty() && !directory) return {};
  return invalid_argument(
      path.empty() ? "expected the name of a file to save, found none"
                   : path + ": expected a file to save to, found a directory");
}

// The file that a symbolic link means: renaming over the link would put a file in its place.
std::string followed(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) return path;
  std::string target = real;
  std::free(real);
  return target;
}

// Whether the file of `bytes` ends in a newline, or is empty.
Status ends_in_newline(int descriptor, const std::string& path, int64_t bytes, bool* ends) {
  char last = '\n';
  if (bytes > 0 && ::pread(descriptor, &last, 1, bytes - 1) != 1) {
    return write_error(path, "reading its end", errno == 0 ? EIO : errno);
  }
  *ends = last == '\n';
  return {};
}

}  // namespace

Status save_text(const std::string& path, const std::string& text) {
  ENGRAM_RETURN_IF_ERROR(refuse_directory(path));
  if (is_special(path)) return write_special(path, text);
  const std::string target = followed(path);
  Status status = memory::write_text_file(target, text);
  if (!status.ok()) ::unlink((target + ".unfinished").c_str());
  return status;
}

Status append_line(const std::string& path, const std::string& line) {
  ENGRAM_RETURN_IF_ERROR(refuse_directory(path));
  if (is_special(path)) return write_special(path, line + "\n");
  const Descriptor file(path, O_RDWR | O_CREAT | O_APPEND);
  if (!file.ok()) return write_error(path, "opening", errno);
  struct stat info {};
  if (::fstat(file.number(), &info) != 0) return write_error(path, "reading its size", errno);
  bool ends = true;
  ENGRAM_RETURN_IF_ERROR(ends_in_newline(file.number(), path, info.st_size, &ends));
  Status status = write_all(file.number(), path, (ends ? "" : "\n") + line + "\n");
  if (status.ok()) status = memory::sync_data(file.number(), path);
  if (!status.ok() && ::ftruncate(file.number(), info.st_size) != 0) {
    return {status.code(), status.message() + "; a part of the line may be left in the file"};
  }
  return status;
}

Status check_can_save(const std::string& path) {
  ENGRAM_RETURN_IF_ERROR(refuse_directory(path));
  if (is_special(path)) {
    if (::access(path.c_str(), W_OK) == 0) return {};
    return write_error(path, "opening", errno);
  }
  const std::string trial = followed(path) + ".unfinished";
  {
    const Descriptor file(trial, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) return write_error(trial, "creating", errno);
  }
  ::unlink(trial.c_str());
  if (::access(path.c_str(), F_OK) != 0 || ::access(path.c_str(), W_OK) == 0) return {};
  return write_error(path, "opening", errno);
}

}  // namespace engram::tools::bench

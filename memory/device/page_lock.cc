#include "memory/device/page_lock.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace engram::memory {
namespace {

std::string limit_text() {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur) + " bytes";
}

}  // namespace

// The system call itself: sanitizers replace mlock() by nothing.
Status lock_pages(const HostRange& range) {
  if (!range.swappable || range.bytes == 0) return Status();
  if (syscall(SYS_mlock, range.data, range.bytes) == 0) return Status();
  const int reason = errno;
  unlock_pages(range);  // a refusal may have locked a part
  return resource_exhausted(
      "locking " + std::to_string(range.bytes) + " bytes in memory refused: " +
      std::strerror(reason) + "; the limit (ulimit -l) of this process is " + limit_text() +
      ". Raise it: ulimit -l unlimited; docker run --ulimit memlock=-1 or --cap-add IPC_LOCK; "
      "systemd LimitMEMLOCK=infinity; Kubernetes securityContext.capabilities.add: [IPC_LOCK]");
}

void unlock_pages(const HostRange& range) {
  if (range.swappable && range.bytes > 0) syscall(SYS_munlock, range.data, range.bytes);
}

}  // namespace engram::memory

// Checks of what tables are read from, written to and shared through.
#include <string>

#include "memory/base/byte_text.h"
#include "memory/table/preflight_checks.h"

namespace engram::memory {

// Tables are shared as memfds, which no mount limits; people know the limit of /dev/shm too well.
Finding check_shared_memory(const PreflightRequest&) {
  return {
      .what = "/dev/shm", .found = "not used: tables are shared as memfds, its size is no limit"};
}

Finding check_io_uring(const PreflightRequest& r) {
  Finding f{.what = "io_uring"};
  const std::string disabled = kernel_line(r.arena.root + "/proc/sys/kernel/io_uring_disabled");
  const Status status = r.probes.io_uring();
  if (status.ok()) {
    f.found = "allowed";
    return f;
  }
  f.severity = Severity::kWarn;
  f.found = "refused: " + status.message();
  f.needed = "io_uring for the full rate of table loads and NVMe rows; threads read instead";
  if (disabled == "1" || disabled == "2") {
    f.found += " (kernel.io_uring_disabled is " + disabled + ")";
    f.command = "sysctl -w kernel.io_uring_disabled=0";
    f.docker = "on the host";
    f.kubernetes = "on the node";
    return f;
  }
  f.command = "allow io_uring_setup, io_uring_enter and io_uring_register where they are filtered";
  f.docker = "--security-opt seccomp=PROFILE.json with these three calls, or seccomp=unconfined";
  f.kubernetes =
      "securityContext: {seccompProfile: {type: Localhost, localhostProfile: PROFILE.json}}";
  return f;
}

Finding check_direct_reads(const PreflightRequest& r) {
  Finding f{.what = "direct reads"};
  const Result<bool> direct = r.probes.reads_directly(r.table_file);
  if (!direct.ok()) {
    f.severity = Severity::kFail;
    f.found = direct.status().message();
    f.needed = "table files that can be read";
    return f;
  }
  if (direct.value()) {
    f.found = "O_DIRECT works for " + r.table_file;
    return f;
  }
  f.severity = Severity::kWarn;
  f.found = "the file system of " + r.table_file + " refuses O_DIRECT";
  f.needed =
      "a local ext4 or xfs: elsewhere reads go through the page cache, slower and in the way";
  f.command = "copy the tables to a local disk";
  f.docker = "--volume /local/disk/tables:/tables, not a path inside the image";
  f.kubernetes = "a local or hostPath volume for the tables";
  return f;
}

Finding check_disk_space(const PreflightRequest& r) {
  Finding f{.what = "disk space"};
  const Result<int64_t> free = r.probes.free_bytes(r.write_directory);
  f.needed = format_bytes(r.write_bytes) + " in " + r.write_directory;
  if (!free.ok()) {
    f.severity = Severity::kFail;
    f.found = free.status().message();
    f.command = "mkdir -p " + r.write_directory;
    return f;
  }
  f.found = format_bytes(free.value()) + " free in " + r.write_directory;
  if (free.value() >= r.write_bytes) return f;
  f.severity = Severity::kFail;
  f.command = "write to another disk, or free " + format_bytes(r.write_bytes - free.value());
  return f;
}

}  // namespace engram::memory

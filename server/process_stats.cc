#include "server/process_stats.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace engram::server {
namespace {

int64_t entries_of(const char* directory) {
  std::error_code error;
  int64_t count = 0;
  std::filesystem::directory_iterator it(directory, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) ++count;
  return count;
}

}  // namespace

ProcessStats read_process_stats() {
  ProcessStats stats;
  std::ifstream statm("/proc/self/statm");
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  if (statm >> total_pages >> resident_pages) {
    stats.resident_bytes = resident_pages * int64_t{sysconf(_SC_PAGESIZE)};
  }
  stats.open_descriptors = entries_of("/proc/self/fd");
  stats.threads = entries_of("/proc/self/task");
  return stats;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace engram::server

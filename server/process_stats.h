// Numbers of this process from /proc/self, and the wall clock.
#pragma once

#include <cstdint>

namespace engram::server {

struct ProcessStats {
  int64_t resident_bytes = 0;
  int64_t open_descriptors = 0;
  int64_t threads = 0;
};

ProcessStats read_process_stats();  // zeros where /proc is missing
double unix_seconds();

}  // namespace engram::server

// What the device can do by the tool everybody knows: runs fio on a file and reads its report.
#pragma once

#include <string>

namespace engram::bench {

struct FioResult {
  double iops = 0.;     // 0: it could not be measured
  std::string problem;  // why not: "fio is not installed"
  std::string how;      // "fio-3.33, io_uring"
};

// Random 4 KiB direct reads anywhere in the file. With `threads`, one thread per read in flight and
// pread; else one thread and io_uring.
FioResult fio_random_reads(const std::string& path, int depth, double seconds, bool threads);

}  // namespace engram::bench

// What processes pay for a table that they share.
#pragma once

#include <sys/types.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>

namespace engram::tests {

struct SharedBytes {
  int64_t pss = 0;      // proportional share of ordinary pages
  int64_t hugetlb = 0;  // explicit huge pages, which have no proportional share: all that is mapped
};

// Of the mappings of table memory in a process, by /proc/PID/smaps.
inline SharedBytes shared_table_bytes(pid_t process) {
  SharedBytes sum;
  std::ifstream smaps("/proc/" + std::to_string(process) + "/smaps");
  std::string line;
  bool table = false;
  while (std::getline(smaps, line)) {
    uint64_t from = 0;
    uint64_t to = 0;
    int64_t kib = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
      table = line.find("/memfd:engram: ") != std::string::npos;
    } else if (!table) {
      continue;
    } else if (std::sscanf(line.c_str(), "Pss: %" SCNd64, &kib) == 1) {
      sum.pss += kib << 10;
    } else if (
        std::sscanf(line.c_str(), "Shared_Hugetlb: %" SCNd64, &kib) == 1 ||
        std::sscanf(line.c_str(), "Private_Hugetlb: %" SCNd64, &kib) == 1) {
      sum.hugetlb += kib << 10;
    }
  }
  return sum;
}

}  // namespace engram::tests

// Kernel files of a machine with two NUMA nodes.
#pragma once

#include <string>

#include "tests/support/fake_root.h"

namespace engram::memory {

// Node 0 has the even cores and `free0_kib`, node 1 the odd ones of 64 cores and `free1_kib`.
inline void write_two_nodes(const FakeRoot& root, long free0_kib, long free1_kib) {
  const std::string folder = "sys/devices/system/node/";
  root.write(folder + "has_memory", "0-1\n");
  std::string even;
  std::string odd;
  for (int cpu = 0; cpu < 64; ++cpu) {
    std::string& list = cpu % 2 == 0 ? even : odd;
    if (!list.empty()) list += ",";
    list += std::to_string(cpu);
  }
  const auto meminfo = [](int id, long free_kib) {
    const std::string node = "Node " + std::to_string(id) + " ";
    return node + "MemTotal:       9000000 kB\n" + node + "MemFree:   " + std::to_string(free_kib) +
           " kB\n" + node + "Active(file):  0 kB\n";
  };
  root.write(folder + "node0/cpulist", even + "\n");
  root.write(folder + "node1/cpulist", odd + "\n");
  root.write(folder + "node0/meminfo", meminfo(0, free0_kib));
  root.write(folder + "node1/meminfo", meminfo(1, free1_kib));
}

}  // namespace engram::memory

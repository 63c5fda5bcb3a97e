// What this process may use of the machine: cores and memory, affinity and control groups (version
// 2 and 1) respected. Reads files below `root`, which is empty but in tests. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace engram::memory {

// The least CPU quota of the process's control group and its ancestors, in whole cores, at least 1.
// A fraction of a core is dropped: a thread over the quota would stall all others. 0: no quota.
int cpu_quota_cores(const std::string& root);

// Bytes that can be taken without swapping or being killed: the least of MemAvailable and of what
// the control group and its ancestors have left; page cache counts as free.
int64_t available_bytes(const std::string& root);

}  // namespace engram::memory

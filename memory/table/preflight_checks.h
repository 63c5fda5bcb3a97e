// The single checks of preflight(), in its order.
#pragma once

#include <cstdint>
#include <string>

#include "memory/table/preflight.h"

namespace engram::memory {

// How the tables would be spread over pools of huge pages and other memory.
struct PoolUse {
  int64_t table_bytes = 0;   // of all tables
  int64_t pooled_bytes = 0;  // of those that a pool holds whole
  int64_t giant_free = 0;    // pages of the pools
  int64_t huge_free = 0;
};
PoolUse plan_pools(const PreflightRequest& request);

Finding check_memory(const PreflightRequest& request, const PoolUse& pools);
Finding check_huge_pages(const PreflightRequest& request, const PoolUse& pools);
Finding check_fragmentation(const PreflightRequest& request, const PoolUse& pools);
Finding check_memlock(const PreflightRequest& request, const PoolUse& pools);
Finding check_numa(const PreflightRequest& request);
Finding check_shared_memory(const PreflightRequest& request);
Finding check_io_uring(const PreflightRequest& request);
Finding check_direct_reads(const PreflightRequest& request);
Finding check_disk_space(const PreflightRequest& request);

// The number after `field` in a kernel file of "field: number" lines; -1 when it is not there.
int64_t kernel_number(const std::string& path, const std::string& field);
// The first line of a kernel file; empty when it is not there.
std::string kernel_line(const std::string& path);

}  // namespace engram::memory

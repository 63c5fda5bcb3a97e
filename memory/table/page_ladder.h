// The ladder of page kinds for one copy of a table. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/host_arena.h"

namespace engram::memory {

// Pages of one copy; owns the mapping and the memfd, or the device's memory.
class PageBlock {
 public:
  PageBlock(uint8_t* data, int64_t mapped_bytes, int descriptor, PageKind kind);
  explicit PageBlock(Buffer device_pages);
  PageBlock(PageBlock&& other) noexcept;
  PageBlock& operator=(PageBlock&& other) noexcept;
  ~PageBlock();

  uint8_t* data() const { return data_; }
  int64_t mapped_bytes() const { return mapped_bytes_; }
  int descriptor() const { return descriptor_; }  // -1: private memory
  PageKind kind() const { return kind_; }
  double huge_share() const { return huge_share_; }
  void measured(PageKind kind, double huge_share);

 private:
  uint8_t* data_;
  int64_t mapped_bytes_;
  int descriptor_;
  PageKind kind_;
  double huge_share_ = 0.;
  Buffer device_pages_;  // of kDevice
};

// Bytes that the pools of explicit huge pages would serve if such a block were asked for `copies`
// times; what is left must come from the available memory.
int64_t pool_bytes_for(int64_t bytes, int copies, const ArenaOptions& options);

// Climbs down until a rung holds. `findings` tells which rung was refused and why. `device` may be
// null. RESOURCE_EXHAUSTED, FAILED_PRECONDITION: see allocate_table_memory().
Result<PageBlock> obtain_pages(
    const std::string& what,
    int64_t bytes,
    const ArenaOptions& options,
    const NumaPlacement& placement,
    Device* device,
    std::vector<std::string>* findings);

}  // namespace engram::memory

// What of a table's pages a device keeps in place: all of what was asked for, or nothing. One
// thread at a time; the device and the pages outlive it.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

// The driver fails on registrations of 512 GiB and stalls others while it registers.
inline constexpr int64_t kPinSegment = int64_t{64} << 30;

class PinnedRanges {
 public:
  PinnedRanges() = default;
  PinnedRanges(const PinnedRanges&) = delete;
  PinnedRanges& operator=(const PinnedRanges&) = delete;
  ~PinnedRanges() { clear(); }

  // Pins in segments of at most kPinSegment. When one is refused, everything pinned here is
  // unpinned. REQUIRES: as Device::pin(); one device for all ranges.
  Status add(Device* device, const HostRange& range);
  void clear();
  int64_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  std::vector<HostRange> ranges_;
  int64_t bytes_ = 0;
};

}  // namespace engram::memory

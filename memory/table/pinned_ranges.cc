#include "memory/table/pinned_ranges.h"

#include <algorithm>

namespace engram::memory {

Status PinnedRanges::add(Device* device, const HostRange& range) {
  ENGRAM_CHECK(device_ == nullptr || device_ == device);
  device_ = device;
  for (int64_t at = 0; at < range.bytes; at += kPinSegment) {
    HostRange segment = range;
    segment.data = static_cast<uint8_t*>(range.data) + at;
    segment.bytes = std::min(kPinSegment, range.bytes - at);
    Status status = device->pin(segment);
    if (!status.ok()) {
      clear();
      return status;
    }
    ranges_.push_back(segment);
    bytes_ += segment.bytes;
  }
  return Status();
}

void PinnedRanges::clear() {
  for (const HostRange& range : ranges_) device_->unpin(range);
  ranges_.clear();
  bytes_ = 0;
}

}  // namespace engram::memory

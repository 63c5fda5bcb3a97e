#include "memory/device/device.h"

namespace engram::memory {

Result<Buffer> Device::allocate(const std::string& what, int64_t bytes) {
  ENGRAM_CHECK(!sealed_);
  ENGRAM_CHECK(bytes >= 0);
  Result<Buffer> buffer = do_allocate(what, bytes);
  if (buffer.ok()) allocated_bytes_ += bytes;
  return buffer;
}

Result<Buffer> Device::allocate_pinned(const std::string& what, int64_t bytes) {
  ENGRAM_CHECK(!sealed_);
  ENGRAM_CHECK(bytes >= 0);
  return do_allocate_pinned(what, bytes);
}

}  // namespace engram::memory

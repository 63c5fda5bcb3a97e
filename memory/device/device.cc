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

void Device::copy_strided(
    Stream& stream,
    void* to,
    int64_t to_stride,
    const void* from,
    int64_t from_stride,
    int64_t bytes,
    int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    copy(
        stream, static_cast<uint8_t*>(to) + i * to_stride,
        static_cast<const uint8_t*>(from) + i * from_stride, bytes);
  }
}

Result<Buffer> Device::allocate_host_pages(int64_t, int) {
  return failed_precondition(name() + " has no host memory of its own");
}

Result<std::unique_ptr<Recording>> Device::record(Stream&, const std::function<void()>&) {
  return unimplemented(name() + " records no work");
}

}  // namespace engram::memory

#include "memory/device/host_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"

namespace engram::memory {
namespace {

constexpr int64_t kMapThreshold = int64_t{1} << 20;  // smaller blocks come from the heap
constexpr int64_t kAlignment = 64;

Status exhausted(const std::string& what, int64_t bytes, int64_t available) {
  return resource_exhausted(
      what + ": " + std::to_string(bytes) + " bytes of host memory wanted, " +
      std::to_string(available) + " available");
}

void release_heap(void* data, int64_t) {
  std::free(data);
}

void release_map(void* data, int64_t bytes) {
  release_pages(data, mapped_size(bytes));
}

}  // namespace

Result<Buffer> allocate_host(const std::string& what, int64_t bytes) {
  ENGRAM_CHECK(bytes >= 0);
  if (bytes == 0) return Buffer();
  const int64_t available = available_bytes("");
  if (bytes > available - kMemoryReserve) return exhausted(what, bytes, available);
  if (bytes < kMapThreshold) {
    const size_t size = static_cast<size_t>(round_up(bytes, kAlignment));
    void* data = std::aligned_alloc(kAlignment, size);
    if (data == nullptr) return exhausted(what, bytes, available);
    std::memset(data, 0, size);
    return Buffer(data, bytes, release_heap);
  }
  const int64_t size = mapped_size(bytes);
  void* data = reserve_pages(size, kHugePage);
  if (data == nullptr) return exhausted(what, bytes, available);
  Buffer buffer(data, bytes, release_map);
  if (!map_pages(data, size, 0, -1)) return exhausted(what, bytes, available);
  // Advice only: a system without huge pages refuses it, and small pages serve as well.
  madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
  if (populate_pages(data, size, 1) != 0) return exhausted(what, bytes, available);
  return buffer;
}

}  // namespace engram::memory

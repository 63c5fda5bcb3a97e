#include "memory/device/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "memory/device/system_limits.h"

namespace engram::memory {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kSmallPage = 4096;
constexpr int64_t kMapThreshold = int64_t{1} << 20;  // smaller blocks come from the heap
constexpr int64_t kAlignment = 64;
// What must stay free beside a block: other processes, page tables, the heap.
constexpr int64_t kReserve = int64_t{64} << 20;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, Linux 5.14; older headers lack it

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// What a block of so many bytes takes: whole huge pages if that wastes little of it, else a tail of
// small ones.
int64_t mapped_size(int64_t bytes) {
  const int64_t huge = round_up(bytes, kHugePage);
  return huge - bytes <= bytes / 4 ? huge : round_up(bytes, kSmallPage);
}

Status exhausted(const std::string& what, int64_t bytes, int64_t available) {
  return resource_exhausted(
      what + ": " + std::to_string(bytes) + " bytes of host memory wanted, " +
      std::to_string(available) + " available");
}

void release_heap(void* data, int64_t) {
  std::free(data);
}

void release_map(void* data, int64_t bytes) {
  ENGRAM_CHECK(munmap(data, static_cast<size_t>(mapped_size(bytes))) == 0);
}

// A mapping of `size` bytes (whole pages) on a huge page boundary, or null.
void* map_aligned(int64_t size) {
  const size_t wanted = static_cast<size_t>(size + kHugePage);
  void* raw = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  char* begin = static_cast<char*>(raw);
  const int64_t skip =
      round_up(reinterpret_cast<int64_t>(raw), kHugePage) - reinterpret_cast<int64_t>(raw);
  if (skip > 0) munmap(begin, static_cast<size_t>(skip));
  if (kHugePage > skip) munmap(begin + skip + size, static_cast<size_t>(kHugePage - skip));
  return begin + skip;
}

// False if the system ran out of memory on the way.
bool populate(void* data, int64_t size) {
  while (madvise(data, static_cast<size_t>(size), kPopulateWrite) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno != EINVAL) return false;
    std::memset(data, 0, static_cast<size_t>(size));  // a kernel without the advice
    break;
  }
  return true;
}

}  // namespace

Result<Buffer> allocate_host(const std::string& what, int64_t bytes) {
  ENGRAM_CHECK(bytes >= 0);
  if (bytes == 0) return Buffer();
  const int64_t available = available_bytes("");
  if (bytes > available - kReserve) return exhausted(what, bytes, available);
  if (bytes < kMapThreshold) {
    const size_t size = static_cast<size_t>(round_up(bytes, kAlignment));
    void* data = std::aligned_alloc(kAlignment, size);
    if (data == nullptr) return exhausted(what, bytes, available);
    std::memset(data, 0, size);
    return Buffer(data, bytes, release_heap);
  }
  const int64_t size = mapped_size(bytes);
  void* data = map_aligned(size);
  if (data == nullptr) return exhausted(what, bytes, available);
  // Advice only: a system without huge pages refuses it, and small pages serve as well.
  madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
  Buffer buffer(data, bytes, release_map);
  if (!populate(data, size)) return exhausted(what, bytes, available);
  return buffer;
}

double huge_page_share(const void* data, int64_t bytes) {
  if (bytes <= 0) return 0.;
  const uint64_t begin = reinterpret_cast<uint64_t>(data);
  const uint64_t end = begin + static_cast<uint64_t>(bytes);
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  uint64_t map_begin = 0;
  uint64_t map_end = 0;
  uint64_t huge = 0;
  while (std::getline(smaps, line)) {
    uint64_t from = 0;
    uint64_t to = 0;
    uint64_t kib = 0;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
      map_begin = from;
      map_end = to;
    } else if (std::sscanf(line.c_str(), "AnonHugePages: %" SCNu64, &kib) == 1) {
      // The kernel may have merged neighbouring mappings; spread its count evenly over them.
      const uint64_t low = std::max(begin, map_begin);
      const uint64_t high = std::min(end, map_end);
      if (low >= high) continue;
      const double part =
          static_cast<double>(high - low) / static_cast<double>(map_end - map_begin);
      huge += static_cast<uint64_t>(part * static_cast<double>(kib << 10));
    }
  }
  return std::min(1., static_cast<double>(huge) / static_cast<double>(bytes));
}

}  // namespace engram::memory

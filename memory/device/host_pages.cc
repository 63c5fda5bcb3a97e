#include "memory/device/host_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "memory/base/status.h"

namespace engram::memory {
namespace {

constexpr int kPopulateRead = 22;   // MADV_POPULATE_READ
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE; older headers lack it
constexpr int kCollapse = 25;       // MADV_COLLAPSE
constexpr int kHugeShift = 26;      // MAP_HUGE_SHIFT
// What one thread touches before it looks for more: some milliseconds of work.
constexpr int64_t kSlice = int64_t{32} << 20;

char* bytes_at(void* data, int64_t offset) {
  return static_cast<char*>(data) + offset;
}

// Calls part(offset, bytes) for each slice, spread over the threads. The first nonzero result ends
// it and is returned.
int for_slices(
    int64_t size, int64_t slice, int threads, const std::function<int(int64_t, int64_t)>& part) {
  std::atomic<int64_t> next{0};  // atomic: slices are claimed by all threads
  std::atomic<int> failure{0};   // atomic: the first failure stops the others
  const auto work = [&] {
    while (failure.load() == 0) {
      const int64_t offset = next.fetch_add(slice);
      if (offset >= size) return;
      int none = 0;
      const int result = part(offset, std::min(slice, size - offset));
      if (result != 0) failure.compare_exchange_strong(none, result);
    }
  };
  const int64_t slices = (size + slice - 1) / slice;
  std::vector<std::thread> helpers;
  for (int64_t i = 1; i < std::min<int64_t>(threads, slices); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return failure.load();
}

int populate(void* data, int64_t size) {
  while (madvise(data, static_cast<size_t>(size), kPopulateWrite) != 0) {
    if (errno != EINTR && errno != EAGAIN) return errno;
  }
  return 0;
}

int64_t read_number(const std::string& path) {
  int64_t value = 0;
  std::ifstream file(path);
  return file >> value ? value : 0;
}

// The chosen word of a file such as "always [madvise] never".
std::string chosen_word(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  const size_t begin = line.find('[');
  const size_t end = line.find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return "";
  return line.substr(begin + 1, end - begin - 1);
}

}  // namespace

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

int64_t mapped_size(int64_t bytes) {
  const int64_t huge = round_up(bytes, kHugePage);
  return huge - bytes <= bytes / 4 ? huge : round_up(bytes, kSmallPage);
}

void* reserve_pages(int64_t size, int64_t alignment) {
  const int64_t wanted = size + alignment + 2 * kSmallPage;
  void* raw = mmap(
      nullptr, static_cast<size_t>(wanted), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
      -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  const int64_t address = reinterpret_cast<int64_t>(raw);
  const int64_t skip = round_up(address + kSmallPage, alignment) - kSmallPage - address;
  const int64_t used = skip + size + 2 * kSmallPage;
  if (skip > 0) munmap(raw, static_cast<size_t>(skip));
  if (wanted > used) munmap(bytes_at(raw, used), static_cast<size_t>(wanted - used));
  return bytes_at(raw, skip + kSmallPage);
}

void release_pages(void* data, int64_t size) {
  ENGRAM_CHECK(
      munmap(bytes_at(data, -kSmallPage), static_cast<size_t>(size + 2 * kSmallPage)) == 0);
}

bool map_pages(void* data, int64_t size, int64_t page_bytes, int descriptor) {
  int flags = MAP_FIXED | (descriptor >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
  if (page_bytes > 0 && descriptor < 0) {
    flags |= MAP_HUGETLB | (__builtin_ctzll(static_cast<uint64_t>(page_bytes)) << kHugeShift);
  }
  const size_t bytes = static_cast<size_t>(size);
  if (mmap(data, bytes, PROT_READ | PROT_WRITE, flags, descriptor, 0) != MAP_FAILED) return true;
  // A failed fixed mapping may have removed the reservation on the way.
  const int reason = errno;
  mmap(data, bytes, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  errno = reason;
  return false;
}

bool map_view(void* data, int64_t size, int descriptor, int threads) {
  const size_t bytes = static_cast<size_t>(size);
  if (mmap(data, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
    return false;
  }
  for_slices(size, kSlice, threads, [data](int64_t offset, int64_t part) {
    madvise(bytes_at(data, offset), static_cast<size_t>(part), kPopulateRead);  // advice
    return 0;
  });
  return true;
}

bool can_populate() {
  void* page =
      mmap(nullptr, kSmallPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  const bool can = populate(page, kSmallPage) == 0;
  munmap(page, kSmallPage);
  return can;
}

int populate_pages(void* data, int64_t size, int threads) {
  ENGRAM_CHECK(size % kSmallPage == 0);
  if (!can_populate()) {
    zero_pages(data, size, threads);
    return 0;
  }
  return for_slices(size, kSlice, threads, [data](int64_t offset, int64_t bytes) {
    return populate(bytes_at(data, offset), bytes);
  });
}

void zero_pages(void* data, int64_t size, int threads) {
  for_slices(size, kSlice, threads, [data](int64_t offset, int64_t bytes) {
    std::memset(bytes_at(data, offset), 0, static_cast<size_t>(bytes));
    return 0;
  });
}

bool takes_direct_reads(void* data) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  // Into a pipe goes the page itself, found as for a direct read; nothing is copied.
  const iovec page{.iov_base = data, .iov_len = kSmallPage};
  const bool found = vmsplice(ends[1], &page, 1, SPLICE_F_NONBLOCK) == kSmallPage;
  close(ends[0]);
  close(ends[1]);
  return found;
}

void collapse_pages(void* data, int64_t size, int threads) {
  const bool advice = can_populate();
  for_slices(size / kHugePage * kHugePage, kSlice, threads, [&](int64_t offset, int64_t bytes) {
    char* begin = bytes_at(data, offset);
    for (int64_t at = 0; advice && at < bytes; at += kHugePage) populate(begin + at, kSmallPage);
    // Many at once: every call waits for all cores. It may stop at a page that cannot be had, so
    // then one by one. The share tells what came.
    if (madvise(begin, static_cast<size_t>(bytes), kCollapse) == 0) return 0;
    for (int64_t at = 0; at < bytes; at += kHugePage) madvise(begin + at, kHugePage, kCollapse);
    return 0;
  });
}

double huge_page_share(const void* data, int64_t bytes) {
  if (bytes <= 0) return 0.;
  static constexpr const char* kFields[] = {
      "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:", "Private_Hugetlb:", "Shared_Hugetlb:"};
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
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
      map_begin = from;
      map_end = to;
      continue;
    }
    // The kernel may have merged neighbouring mappings; spread its count evenly over them.
    const uint64_t low = std::max(begin, map_begin);
    const uint64_t high = std::min(end, map_end);
    if (low >= high) continue;
    for (const char* field : kFields) {
      if (!line.starts_with(field)) continue;
      const uint64_t kib = std::strtoull(line.c_str() + std::strlen(field), nullptr, 10);
      const double part =
          static_cast<double>(high - low) / static_cast<double>(map_end - map_begin);
      huge += static_cast<uint64_t>(part * static_cast<double>(kib << 10));
    }
  }
  return std::min(1., static_cast<double>(huge) / static_cast<double>(bytes));
}

HugePool read_huge_pool(const std::string& root, int64_t page_bytes, int node) {
  const std::string size = "hugepages-" + std::to_string(page_bytes >> 10) + "kB/";
  const std::string all = root + "/sys/kernel/mm/hugepages/" + size;
  const std::string folder = node < 0 ? all
                                      : root + "/sys/devices/system/node/node" +
                                            std::to_string(node) + "/hugepages/" + size;
  HugePool pool;
  pool.page_bytes = page_bytes;
  pool.total = read_number(folder + "nr_hugepages");
  const int64_t promised = read_number(all + "resv_hugepages");
  pool.available = std::max<int64_t>(0, read_number(folder + "free_hugepages") - promised);
  return pool;
}

bool shared_huge_pages_enabled(const std::string& root) {
  const std::string folder = root + "/sys/kernel/mm/transparent_hugepage/";
  std::string mode = chosen_word(folder + "hugepages-2048kB/shmem_enabled");
  if (mode.empty() || mode == "inherit") mode = chosen_word(folder + "shmem_enabled");
  return mode == "always" || mode == "within_size" || mode == "advise" || mode == "force";
}

}  // namespace engram::memory

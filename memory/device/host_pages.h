// Pages of host memory, below allocate_host() and the table arena: address space with guard pages,
// touching in parallel, huge pages and what the system has of them. Any thread.
//
// Functions that take a `root` read the kernel's files below it; it is empty but in tests.
#pragma once

#include <cstdint>
#include <string>

namespace engram::memory {

inline constexpr int64_t kSmallPage = 4096;
inline constexpr int64_t kHugePage = int64_t{2} << 20;
inline constexpr int64_t kGiantPage = int64_t{1} << 30;

int64_t round_up(int64_t value, int64_t multiple);

// What a block of so many bytes takes: whole huge pages if that wastes little of it, else a tail of
// small ones.
int64_t mapped_size(int64_t bytes);

// Address space for `size` bytes at a multiple of `alignment`, with an inaccessible page on both
// sides: an overrun is a fault, and the kernel never merges the block with a neighbour, so that
// what /proc/self/smaps says of it is exact. Nothing is accessible yet. Null when there is none.
void* reserve_pages(int64_t size, int64_t alignment);
// The counterpart, mapped or not. REQUIRES: the size that was reserved.
void release_pages(void* data, int64_t size);

// Makes reserved pages readable and writable. `page_bytes` > 0 takes explicit huge pages of that
// size, reserved in the pool now. `descriptor` >= 0 maps that file from its start, shared. False:
// errno says why, and the range is reserved as before.
bool map_pages(void* data, int64_t size, int64_t page_bytes, int descriptor);

// Maps a file from its start into reserved pages, shared and for reading only, and fills the page
// tables where the kernel can (Linux 5.14), so that no first read is slow. False: errno.
bool map_view(void* data, int64_t size, int descriptor, int threads);

// Whether the kernel can populate pages without a signal when there are none (Linux 5.14).
bool can_populate();

// Touches all pages for writing, in slices spread over `threads`. 0 or the first errno: ENOMEM,
// EFAULT where an access would have been a SIGBUS. Without can_populate() the pages are written,
// which zeroes them. REQUIRES: size is a multiple of kSmallPage.
int populate_pages(void* data, int64_t size, int threads);

// Writes zeros, in slices spread over `threads`, into memory that is mapped already.
void zero_pages(void* data, int64_t size, int threads);

// Whether files can be read straight into this mapped page: the kernel has to find the page behind
// it, which it does not behind what some drivers map.
bool takes_direct_reads(void* data);

// Asks for huge pages where small ones lie, whatever /sys/kernel/mm/transparent_hugepage says
// (MADV_COLLAPSE, Linux 6.1). A huge page that cannot be had is left as it is. What was not touched
// yet is touched on the way.
void collapse_pages(void* data, int64_t size, int threads);

// Which share of a block is backed by huge pages of any kind now, 0..1, by /proc/self/smaps.
double huge_page_share(const void* data, int64_t bytes);

// A pool of explicit huge pages; all zero where the kernel has none of that size.
struct HugePool {
  int64_t page_bytes = 0;
  int64_t total = 0;      // pages
  int64_t available = 0;  // pages: free and not promised to anyone
};

// `node` < 0: of the whole machine. What is promised is known for the whole machine only.
HugePool read_huge_pool(const std::string& root, int64_t page_bytes, int node);

// Whether a shared mapping that asks for transparent huge pages gets them when it is touched.
bool shared_huge_pages_enabled(const std::string& root);

}  // namespace engram::memory

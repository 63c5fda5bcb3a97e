// Host memory for n-gram tables: in the largest pages there are, on the right NUMA nodes, touched,
// pinned where asked, shareable with other processes, and honest about what was obtained.
//
// Pages come from a ladder: those the device makes itself where there are such (a GPU reaches them
// through large pages whatever the host's are), explicit huge pages of 1 GiB, of 2 MiB, transparent
// huge pages, small pages. Explicit ones are taken only when the pool holds all of them, and they
// are touched at once, so a shortage is an error here and never a signal later.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/numa_policy.h"
#include "memory/table/pinned_ranges.h"

namespace engram::memory {

enum class HugePages : uint8_t {
  kAuto,     // as far up the ladder as it goes
  kRequire,  // FAILED_PRECONDITION when less than kHugeShareWanted of the table is in huge pages
  kOff,      // small pages, to measure what huge ones are worth
};
enum class PinPages : uint8_t {
  kNo,
  kTry,      // a refusal is a finding of the report
  kRequire,  // a refusal is an error
};
enum class PageKind : uint8_t {
  kHugetlb1G,
  kHugetlb2M,
  kTransparent,
  kSmall,
  kDevice,  // of Device::allocate_host_pages()
};

const char* page_kind_name(PageKind kind);  // "2 MiB hugetlb"

inline constexpr double kHugeShareWanted = 0.9;

struct ArenaOptions {
  HugePages huge = HugePages::kAuto;
  NumaPolicy numa;
  PinPages pin = PinPages::kNo;
  bool shareable = false;  // in a memfd, see TableMemory::descriptor()
  // Pages of the device first: where tables are pinned, and neither shareable nor in small pages.
  bool device_pages = true;
  int threads = 0;             // that touch pages; <= 0: the usable cores
  int64_t other_bytes = 0;     // what the process will take beside the table until it serves
  std::vector<int> gpu_nodes;  // NUMA nodes of the GPUs that read the table; none: the device's
  std::string root;            // the kernel's files, empty but in tests
};

struct ArenaReport {
  std::string what;
  int64_t bytes = 0;         // of one copy
  int64_t mapped_bytes = 0;  // of all copies, rounded up to pages
  int copies = 0;
  PageKind pages = PageKind::kSmall;  // the least of the copies
  // 0..1 when it was allocated, the least of the copies; of kDevice as the device maps it.
  double huge_share = 0.;
  bool shareable = false;
  std::string numa;        // the policy's decision
  std::vector<int> nodes;  // where the pages are; none when the kernel does not say
  double touch_seconds = 0.;
  int64_t pinned_bytes = 0;
  double pin_seconds = 0.;
  std::vector<std::string> findings;  // what was refused and how it is allowed

  std::string text() const;  // one line, findings behind it
};

// The pages of one table. Move-only; the device outlives it. data() may be written by any threads
// until the table is loaded; settle(), pin() and report() may be called by any thread.
class TableMemory {
 public:
  TableMemory();
  TableMemory(TableMemory&&) noexcept;
  TableMemory& operator=(TableMemory&&) noexcept;
  ~TableMemory();

  uint8_t* data() const { return copy(0); }  // 2 MiB aligned, zeroed
  int64_t bytes() const;

  // With NUMA policy `replicate` there is one copy per node; the loader fills copy 0.
  int copies() const;
  uint8_t* copy(int index) const;
  int copy_node(int index) const;  // -1: not bound to one node
  PageKind copy_pages(int index) const;
  double copy_huge_share(int index) const;  // 0..1, when it was allocated
  // The copy on the node the calling thread runs on now.
  const uint8_t* local() const;

  // A memfd of the copy, -1 unless shareable. Others may map it for reading only and cannot change
  // its size: it is sealed. Stays this object's.
  int descriptor(int index) const;
  // Bytes of that memfd: bytes() rounded up to pages.
  int64_t mapped_bytes(int index) const;

  // The loader calls it for each range it has filled in copy 0, once: copies it to the other
  // copies and pins it if the options say so. REQUIRES: offset and the range's end are multiples of
  // 4096, or the end is bytes(). Returns an error only with PinPages::kRequire.
  Status settle(int64_t offset, int64_t bytes);
  // Pins a range of every copy in segments of at most kPinSegment, whatever the options say. When
  // the device refuses one, everything this object pinned is unpinned. REQUIRES: as settle().
  Status pin(int64_t offset, int64_t bytes);
  void unpin();

  ArenaReport report() const;

  struct State;
  explicit TableMemory(std::unique_ptr<State> state);

 private:
  std::unique_ptr<State> state_;
};

// RESOURCE_EXHAUSTED with the numbers, before anything is taken, when the table, its copies and
// other_bytes do not fit what is available. FAILED_PRECONDITION with the command that helps when
// huge pages are required and not there. `device` pins, and may make the pages; null: nothing is
// ever pinned.
Result<TableMemory> allocate_table_memory(
    const std::string& what, int64_t bytes, const ArenaOptions& options, Device* device);

}  // namespace engram::memory

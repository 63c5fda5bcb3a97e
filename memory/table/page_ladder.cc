#include "memory/table/page_ladder.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "memory/device/device_cpu.h"
#include "memory/device/host_memory.h"
#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"

namespace engram::memory {
namespace {

constexpr int kMemfdHugeShift = 26;  // MFD_HUGE_SHIFT
constexpr int kCollapseRounds = 3;
// The caches of address translation hold a smaller table whatever its pages are.
constexpr int64_t kSlowInSmallPages = int64_t{64} << 20;

// Whole pages of this size waste little enough of the block.
bool worth_it(int64_t bytes, int64_t page_bytes, HugePages huge) {
  if (huge == HugePages::kRequire && page_bytes == kHugePage) return true;
  const int64_t waste = round_up(bytes, page_bytes) - bytes;
  return waste <= bytes / (page_bytes == kGiantPage ? 8 : 4);
}

std::string percent(double share) {
  return std::to_string(std::lround(100. * share)) + " %";
}

class Ladder {
 public:
  Ladder(
      const std::string& what,
      int64_t bytes,
      const ArenaOptions& options,
      const NumaPlacement& placement,
      Device* device,
      std::vector<std::string>* findings)
      : what_(what),
        bytes_(bytes),
        options_(options),
        placement_(placement),
        device_(device),
        findings_(findings),
        threads_(options.threads > 0 ? options.threads : usable_cores()),
        node_(
            placement.mode == NumaMode::kBind && placement.nodes.size() == 1
                ? placement.nodes.front()
                : -1) {}

  Result<PageBlock> climb() {
    if (std::optional<PageBlock> block = device_pages()) return *std::move(block);
    if (options_.huge != HugePages::kOff) {
      for (const int64_t page_bytes : {kGiantPage, kHugePage}) {
        std::optional<PageBlock> block = explicit_pages(page_bytes);
        if (block) return sealed(*std::move(block));
      }
    }
    Result<PageBlock> block = ordinary_pages();
    if (!block.ok()) return block.status();
    ENGRAM_RETURN_IF_ERROR(judge(block.value().huge_share()));
    return sealed(std::move(block).value());
  }

 private:
  void find(const std::string& text) {
    // Every rung may meet the same refusal.
    if (std::find(findings_->begin(), findings_->end(), text) == findings_->end()) {
      findings_->push_back(text);
    }
  }

  // None, with a finding where a device could have made some.
  std::optional<PageBlock> device_pages() {
    const bool wanted = options_.device_pages && device_ != nullptr &&
                        !device_->host_reads_buffers() && options_.pin != PinPages::kNo &&
                        !options_.shareable && options_.huge != HugePages::kOff;
    if (!wanted) return std::nullopt;
    const std::string name = std::string(page_kind_name(PageKind::kDevice)) + " pages";
    if (placement_.mode == NumaMode::kInterleave || placement_.nodes.size() > 1) {
      find(name + " not used: they lie on one NUMA node");
      return std::nullopt;
    }
    // They come from what is available, never from the pools.
    const int64_t available = available_bytes(options_.root);
    if (round_up(bytes_, kHugePage) > available - options_.other_bytes - kMemoryReserve) {
      find(name + " not used: " + std::to_string(available) + " bytes available outside the pools");
      return std::nullopt;
    }
    const int node = placement_.nodes.empty() ? device_->numa_node() : placement_.nodes.front();
    Result<Buffer> pages = device_->allocate_host_pages(bytes_, node);
    if (!pages.ok()) {
      find(name + " refused: " + pages.status().message());
      return std::nullopt;
    }
    if (!takes_direct_reads(pages.value().data())) {
      find(name + " not used: files cannot be read straight into them");
      return std::nullopt;
    }
    zero_pages(pages.value().data(), pages.value().bytes(), threads_);
    return PageBlock(std::move(pages).value());
  }

  // A mapping of the block, untouched, placed; null with errno.
  std::optional<PageBlock> map(int64_t size, int64_t page_bytes, PageKind kind) {
    int descriptor = -1;
    if (options_.shareable) {
      unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
      if (page_bytes > 0) {
        const unsigned log2 =
            static_cast<unsigned>(__builtin_ctzll(static_cast<uint64_t>(page_bytes)));
        flags |= MFD_HUGETLB | (log2 << kMemfdHugeShift);
      }
      descriptor = memfd_create(("engram: " + what_).substr(0, 200).c_str(), flags);
      if (descriptor < 0) return std::nullopt;
    }
    void* data = reserve_pages(size, std::max(page_bytes, kHugePage));
    if (data == nullptr) {
      if (descriptor >= 0) close(descriptor);
      return std::nullopt;
    }
    PageBlock block(static_cast<uint8_t*>(data), size, descriptor, kind);
    if (descriptor >= 0 && ftruncate(descriptor, size) != 0) return std::nullopt;
    if (!map_pages(data, size, page_bytes, descriptor)) return std::nullopt;
    const Status placed = place_pages(data, size, placement_.mode, placement_.nodes);
    if (!placed.ok()) find(placed.message());
    return block;
  }

  // None, with a finding, when the pool does not hold them all.
  std::optional<PageBlock> explicit_pages(int64_t page_bytes) {
    const bool giant = page_bytes == kGiantPage;
    const PageKind kind = giant ? PageKind::kHugetlb1G : PageKind::kHugetlb2M;
    const HugePool pool = read_huge_pool(options_.root, page_bytes, node_);
    if (pool.total == 0 || !worth_it(bytes_, page_bytes, options_.huge)) return std::nullopt;
    const std::string name = page_kind_name(kind);
    const int64_t size = round_up(bytes_, page_bytes);
    if (pool.available < size / page_bytes) {
      find(
          name + " pool: " + std::to_string(size / page_bytes) + " pages wanted, " +
          std::to_string(pool.available) + " free");
      return std::nullopt;
    }
    if (!can_populate()) {
      find(name + " pages not used: a shortage could end the process (needs Linux 5.14)");
      return std::nullopt;
    }
    std::optional<PageBlock> block = map(size, page_bytes, kind);
    int reason = block ? 0 : errno;
    if (block) reason = populate_pages(block->data(), size, threads_);
    if (reason != 0) {
      // Someone else was faster, or a control group limits huge pages.
      find(name + " pages refused: " + std::strerror(reason));
      return std::nullopt;
    }
    block->measured(kind, huge_page_share(block->data(), size));
    return block;
  }

  Result<PageBlock> ordinary_pages() {
    const bool huge = options_.huge != HugePages::kOff;
    const int64_t size = !huge                                  ? round_up(bytes_, kSmallPage)
                         : options_.huge == HugePages::kRequire ? round_up(bytes_, kHugePage)
                                                                : mapped_size(bytes_);
    const int64_t available = available_bytes(options_.root);
    if (size > available - options_.other_bytes - kMemoryReserve) return exhausted(available);
    std::optional<PageBlock> block = map(size, 0, PageKind::kSmall);
    if (!block) {
      return resource_exhausted(
          what_ + ": mapping " + std::to_string(size) + " bytes failed: " + std::strerror(errno));
    }
    uint8_t* data = block->data();
    madvise(data, static_cast<size_t>(size), huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (huge && options_.shareable && !shared_huge_pages_enabled(options_.root)) {
      collapse_pages(data, size, threads_);  // touching alone would give small pages
    }
    if (populate_pages(data, size, threads_) != 0) return exhausted(available);
    double share = huge_page_share(data, size);
    for (int round = 0; huge && share < kHugeShareWanted && round < kCollapseRounds; ++round) {
      collapse_pages(data, size, threads_);
      const double before = std::exchange(share, huge_page_share(data, size));
      if (share <= before) break;
    }
    block->measured(share > 0. ? PageKind::kTransparent : PageKind::kSmall, share);
    return *std::move(block);
  }

  Status exhausted(int64_t available) const {
    return resource_exhausted(
        what_ + ": " + std::to_string(bytes_) + " bytes of host memory wanted and " +
        std::to_string(options_.other_bytes) + " for the rest of the process, " +
        std::to_string(available) + " available");
  }

  // What an administrator types so that the pool holds this block.
  std::string fix() const {
    const HugePool pool = read_huge_pool(options_.root, kHugePage, node_);
    const int64_t pages = round_up(bytes_, kHugePage) / kHugePage;
    const std::string total =
        std::to_string(pool.total + std::max<int64_t>(0, pages - pool.available));
    const std::string command = node_ < 0 ? "sysctl -w vm.nr_hugepages=" + total
                                          : "echo " + total + " > /sys/devices/system/node/node" +
                                                std::to_string(node_) +
                                                "/hugepages/hugepages-2048kB/nr_hugepages";
    return "on the host: " + command + " (" + std::to_string(pages) +
           " pages of 2 MiB for this table, " + std::to_string(pool.total) + " in the pool, " +
           std::to_string(pool.available) + " of them free)";
  }

  Status judge(double share) {
    if (options_.huge == HugePages::kOff || share >= kHugeShareWanted) return Status();
    const std::string found = percent(share) + " of it are in huge pages, wanted " +
                              percent(kHugeShareWanted) + "; " + fix();
    if (options_.huge == HugePages::kRequire) {
      return failed_precondition(what_ + ": huge pages are required, but " + found);
    }
    if (bytes_ >= kSlowInSmallPages) find("random reads will be slow: only " + found);
    return Status();
  }

  // Who gets the descriptor can neither write nor change the size under another's feet.
  Result<PageBlock> sealed(PageBlock block) const {
    constexpr int kSeals = F_SEAL_FUTURE_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (block.descriptor() >= 0 && fcntl(block.descriptor(), F_ADD_SEALS, kSeals) != 0) {
      return failed_precondition(
          what_ + ": shared memory cannot be sealed against writers: " + std::strerror(errno));
    }
    return block;
  }

  const std::string& what_;
  const int64_t bytes_;
  const ArenaOptions& options_;
  const NumaPlacement& placement_;
  Device* const device_;
  std::vector<std::string>* findings_;
  const int threads_;
  const int node_;  // the only one pages may come from; -1: any
};

}  // namespace

PageBlock::PageBlock(uint8_t* data, int64_t mapped_bytes, int descriptor, PageKind kind)
    : data_(data), mapped_bytes_(mapped_bytes), descriptor_(descriptor), kind_(kind) {}

PageBlock::PageBlock(Buffer device_pages)
    : data_(device_pages.as<uint8_t>()),
      mapped_bytes_(device_pages.bytes()),
      descriptor_(-1),
      kind_(PageKind::kDevice),
      huge_share_(1.),
      device_pages_(std::move(device_pages)) {}

PageBlock::PageBlock(PageBlock&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      mapped_bytes_(other.mapped_bytes_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      kind_(other.kind_),
      huge_share_(other.huge_share_),
      device_pages_(std::move(other.device_pages_)) {}

PageBlock& PageBlock::operator=(PageBlock&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(mapped_bytes_, other.mapped_bytes_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(kind_, other.kind_);
  std::swap(huge_share_, other.huge_share_);
  std::swap(device_pages_, other.device_pages_);
  return *this;
}

PageBlock::~PageBlock() {
  const bool mapped_here = data_ != nullptr && kind_ != PageKind::kDevice;
  if (mapped_here) release_pages(data_, mapped_bytes_);
  if (descriptor_ >= 0) close(descriptor_);
}

void PageBlock::measured(PageKind kind, double huge_share) {
  kind_ = kind;
  huge_share_ = huge_share;
}

int64_t pool_bytes_for(int64_t bytes, int copies, const ArenaOptions& options) {
  if (options.huge == HugePages::kOff) return 0;
  for (const int64_t page_bytes : {kGiantPage, kHugePage}) {
    if (!worth_it(bytes, page_bytes, options.huge)) continue;
    const int64_t pages = round_up(bytes, page_bytes) / page_bytes;
    const int64_t served = read_huge_pool(options.root, page_bytes, -1).available / pages;
    if (served > 0) return std::min<int64_t>(served, copies) * bytes;
  }
  return 0;
}

Result<PageBlock> obtain_pages(
    const std::string& what,
    int64_t bytes,
    const ArenaOptions& options,
    const NumaPlacement& placement,
    Device* device,
    std::vector<std::string>* findings) {
  ENGRAM_CHECK(bytes > 0);
  return Ladder(what, bytes, options, placement, device, findings).climb();
}

}  // namespace engram::memory

// Checks of memory: how much, in which pages, where, and whether it may be locked.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>
#include <sstream>
#include <string>

#include "memory/base/byte_text.h"
#include "memory/device/host_pages.h"
#include "memory/device/numa.h"
#include "memory/device/system_limits.h"
#include "memory/table/preflight_checks.h"

namespace engram::memory {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int kCapIpcLock = 14;

// Whole GiB, rounded up, for flags.
std::string gib(int64_t bytes) {
  return std::to_string((bytes + kGiB - 1) / kGiB);
}

std::string thp_folder(const PreflightRequest& r) {
  return r.arena.root + "/sys/kernel/mm/transparent_hugepage/";
}

// The chosen word of "always [madvise] never".
std::string chosen(const std::string& line) {
  const size_t open = line.find('[');
  const size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return line;
  return line.substr(open + 1, close - open - 1);
}

bool transparent_pages_possible(const PreflightRequest& r) {
  const std::string mode = chosen(kernel_line(thp_folder(r) + "enabled"));
  if (mode != "always" && mode != "madvise") return false;
  return !r.arena.shareable || shared_huge_pages_enabled(r.arena.root);
}

// Free memory in blocks that can become a huge page, by /proc/buddyinfo; -1: unknown. Columns are
// blocks of 4 KiB * 2^column.
int64_t free_in_large_blocks(const std::string& root) {
  std::ifstream file(root + "/proc/buddyinfo");
  if (!file) return -1;
  std::string line;
  int64_t bytes = 0;
  while (std::getline(file, line)) {
    const size_t zone = line.find("zone");
    if (zone == std::string::npos) continue;
    std::istringstream words(line.substr(zone + 4));
    std::string name;
    words >> name;
    int64_t count = 0;
    for (int order = 0; words >> count; ++order) {
      if (order >= 9) bytes += count * (kSmallPage << order);
    }
  }
  return bytes;
}

// Soft limit of locked memory in bytes; the largest number for "unlimited", -1 when unknown.
int64_t memlock_limit(const std::string& root) {
  std::ifstream file(root + "/proc/self/limits");
  std::string line;
  const std::string name = "Max locked memory";
  while (std::getline(file, line)) {
    if (!line.starts_with(name)) continue;
    std::istringstream words(line.substr(name.size()));
    std::string soft;
    words >> soft;
    if (soft == "unlimited") return std::numeric_limits<int64_t>::max();
    int64_t value = -1;
    std::from_chars(soft.data(), soft.data() + soft.size(), value);
    return value;
  }
  return -1;
}

bool may_lock_anything(const std::string& root) {
  std::ifstream file(root + "/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("CapEff:")) continue;
    const size_t digits = line.find_first_not_of(" \t", 7);
    if (digits == std::string::npos) return false;
    uint64_t capabilities = 0;
    std::from_chars(line.data() + digits, line.data() + line.size(), capabilities, 16);
    return (capabilities >> kCapIpcLock & 1) != 0;
  }
  return false;
}

}  // namespace

int64_t kernel_number(const std::string& path, const std::string& field) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with(field)) continue;
    const size_t digits = line.find_first_of("0123456789", field.size());
    int64_t value = -1;
    if (digits != std::string::npos) {
      std::from_chars(line.data() + digits, line.data() + line.size(), value);
    }
    return value;
  }
  return -1;
}

std::string kernel_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

PoolUse plan_pools(const PreflightRequest& r) {
  PoolUse use;
  use.giant_free = read_huge_pool(r.arena.root, kGiantPage, -1).available;
  use.huge_free = read_huge_pool(r.arena.root, kHugePage, -1).available;
  int64_t giant = use.giant_free;
  int64_t huge = use.huge_free;
  for (const int64_t bytes : r.table_bytes) {
    use.table_bytes += bytes;
    if (r.arena.huge == HugePages::kOff || bytes == 0) continue;
    const int64_t giants = round_up(bytes, kGiantPage) / kGiantPage;
    const int64_t huges = round_up(bytes, kHugePage) / kHugePage;
    // A giant page that would be mostly empty is not taken, as in the arena.
    const bool fits_giant = giants <= giant && giants * kGiantPage - bytes <= bytes / 4;
    if (fits_giant) {
      giant -= giants;
    } else if (huges <= huge) {
      huge -= huges;
    } else {
      continue;
    }
    use.pooled_bytes += bytes;
  }
  return use;
}

Finding check_memory(const PreflightRequest& r, const PoolUse& pools) {
  const std::string& root = r.arena.root;
  const int64_t available = available_bytes(root);
  const int64_t machine_kib = kernel_number(root + "/proc/meminfo", "MemAvailable:");
  const int64_t machine = machine_kib < 0 ? available : machine_kib * 1024;
  const int64_t rest = pools.table_bytes - pools.pooled_bytes;
  const int64_t peak = rest + r.other_bytes;
  Finding f{.what = "memory"};
  f.found = format_bytes(available) + " available";
  if (available < machine) f.found += " (the control group's limit)";
  if (pools.pooled_bytes > 0) {
    f.found += ", " + format_bytes(pools.pooled_bytes) + " of the tables in pools of huge pages";
  }
  f.needed = format_bytes(peak) + " at the peak: " + format_bytes(rest) + " of tables and " +
             format_bytes(r.other_bytes) + " of everything else";
  if (peak <= available) return f;
  // Where rows may stay on the disk, tables are no reason to fail.
  f.severity = r.may_use_nvme && r.other_bytes <= available ? Severity::kWarn : Severity::kFail;
  if (available < machine) {
    f.docker = std::string("--memory=") + gib(peak + kGiB) + "g";
    f.kubernetes = std::string("resources: {limits: {memory: ") + gib(peak + kGiB) + "Gi}}";
    f.command = std::string("systemctl set-property UNIT MemoryMax=") + gib(peak + kGiB) + "G";
    if (peak > machine) {
      f.command += "; the machine itself has only " + format_bytes(machine) + " available";
    }
  } else if (r.other_bytes + kGiB > available) {
    f.command = "end other processes, or make the key-value cache smaller: --kv-cache-memory";
  } else {
    f.command = "end other processes, or keep rows on the disk: --table-placement host:" +
                std::to_string((available - r.other_bytes) / kGiB) + "GiB,nvme";
  }
  return f;
}

Finding check_huge_pages(const PreflightRequest& r, const PoolUse& pools) {
  Finding f{.what = "huge pages"};
  const std::string mode = kernel_line(thp_folder(r) + "enabled");
  const int64_t rest = pools.table_bytes - pools.pooled_bytes;
  f.found = std::string("pools: ") + std::to_string(pools.giant_free) + " free of 1 GiB, " +
            std::to_string(pools.huge_free) +
            " free of 2 MiB; transparent: " + (mode.empty() ? "not in this kernel" : chosen(mode));
  const std::string defrag = kernel_line(thp_folder(r) + "defrag");
  if (!defrag.empty()) f.found += ", defrag " + chosen(defrag);
  if (r.arena.shareable) {
    const std::string shared = kernel_line(thp_folder(r) + "shmem_enabled");
    f.found += ", shared " + (shared.empty() ? std::string("none") : chosen(shared));
  }
  if (r.arena.huge == HugePages::kOff) {
    f.found += "; not wanted";
    return f;
  }
  if (rest == 0 || transparent_pages_possible(r)) return f;
  f.severity = r.arena.huge == HugePages::kRequire ? Severity::kFail : Severity::kWarn;
  const int64_t pages = round_up(pools.table_bytes, kHugePage) / kHugePage +
                        static_cast<int64_t>(r.table_bytes.size());
  f.needed = std::to_string(pages) +
             " free huge pages of 2 MiB, or transparent ones; with small "
             "pages a lookup takes several times as long";
  f.command = std::string("sysctl -w vm.nr_hugepages=") + std::to_string(pages) + ", or echo " +
              (r.arena.shareable ? "advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"
                                 : "madvise > /sys/kernel/mm/transparent_hugepage/enabled");
  f.docker = "set it on the host: containers have the host's pages";
  f.kubernetes = "resources: {limits: {hugepages-2Mi: " + std::to_string(pages * 2) +
                 "Mi}}, on a node with "
                 "the pool";
  return f;
}

Finding check_fragmentation(const PreflightRequest& r, const PoolUse& pools) {
  Finding f{.what = "page cache"};
  const int64_t large = free_in_large_blocks(r.arena.root);
  const int64_t rest = pools.table_bytes - pools.pooled_bytes;
  if (large < 0) {
    f.found = "the kernel does not say how free memory is cut (/proc/buddyinfo)";
    return f;
  }
  const int64_t cached_kib =
      std::max<int64_t>(0, kernel_number(r.arena.root + "/proc/meminfo", "Cached:"));
  f.found = format_bytes(large) + " free in blocks of 2 MiB and more, " +
            format_bytes(cached_kib * 1024) + " in the page cache";
  const bool wanted = r.arena.huge != HugePages::kOff && rest > 0 && transparent_pages_possible(r);
  if (!wanted || large >= rest) return f;
  f.severity = Severity::kWarn;
  f.needed = format_bytes(rest) +
             " for tables in transparent huge pages, or the kernel has to "
             "move other pages first, which is slow and may fail";
  f.command = "sync; echo 1 > /proc/sys/vm/drop_caches; echo 1 > /proc/sys/vm/compact_memory";
  f.docker = "on the host";
  f.kubernetes = "on the node";
  return f;
}

Finding check_memlock(const PreflightRequest& r, const PoolUse& pools) {
  Finding f{.what = "locked memory"};
  const int64_t limit = memlock_limit(r.arena.root);
  const bool capable = may_lock_anything(r.arena.root);
  const int64_t needed = pools.table_bytes - pools.pooled_bytes;
  if (capable) {
    f.found = "CAP_IPC_LOCK: no limit";
  } else if (limit == std::numeric_limits<int64_t>::max()) {
    f.found = "no limit";
  } else if (limit < 0) {
    f.found = "the kernel does not say (/proc/self/limits)";
  } else {
    f.found = std::string("at most ") + format_bytes(limit);
  }
  if (r.arena.pin == PinPages::kNo) {
    f.found += "; tables are not pinned";
    return f;
  }
  if (capable || limit < 0 || limit >= needed) return f;
  f.severity = r.arena.pin == PinPages::kRequire ? Severity::kFail : Severity::kWarn;
  f.needed = format_bytes(needed) + " to pin the tables";
  f.command = "ulimit -l unlimited; for a service LimitMEMLOCK=infinity";
  f.docker = "--ulimit memlock=-1:-1";
  f.kubernetes = "securityContext: {capabilities: {add: [IPC_LOCK]}}";
  return f;
}

Finding check_numa(const PreflightRequest& r) {
  Finding f{.what = "NUMA"};
  const NumaTopology topology = read_numa_topology(r.arena.root);
  const int64_t most =
      r.table_bytes.empty() ? 0 : *std::max_element(r.table_bytes.begin(), r.table_bytes.end());
  if (topology.nodes.size() == 1) {
    f.found = "one node";
    return f;
  }
  f.found = std::to_string(topology.nodes.size()) + " nodes:";
  for (const NumaNode& node : topology.nodes) {
    f.found.append(" ").append(std::to_string(node.id)).append(" with ");
    f.found.append(format_bytes(node.available_bytes));
    f.found.append(node.cpus.empty() ? " and no cores;" : ";");
  }
  f.found += " policy " + numa_policy_text(r.arena.numa);
  const Result<NumaPlan> plan = plan_numa(
      "the largest table", most, r.arena.numa, topology, r.arena.gpu_nodes,
      topology.nodes.front().id);
  if (plan.ok()) {
    f.found += " (" + plan.value().reason + ")";
    return f;
  }
  f.severity = Severity::kFail;
  f.needed = plan.status().message();
  f.command = "--numa-policy=interleave";
  return f;
}

}  // namespace engram::memory

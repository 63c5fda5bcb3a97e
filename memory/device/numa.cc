#include "memory/device/numa.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"

namespace engram::memory {
namespace {

constexpr int kMaxNode = 1024;
constexpr int kMaxCpu = 1 << 16;

std::string read_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// "0-2,5" as numbers below `limit`.
std::vector<int> parse_list(const std::string& text, int limit) {
  std::vector<int> numbers;
  std::istringstream items(text);
  std::string item;
  while (std::getline(items, item, ',')) {
    int first = 0;
    int last = 0;
    const int found = std::sscanf(item.c_str(), "%d-%d", &first, &last);
    if (found < 1 || first < 0) continue;
    if (found == 1) last = first;
    for (int i = first; i <= std::min(last, limit - 1); ++i) numbers.push_back(i);
  }
  return numbers;
}

NumaNode read_node(const std::string& root, int id) {
  NumaNode node;
  node.id = id;
  const std::string folder = root + "/sys/devices/system/node/node" + std::to_string(id);
  node.cpus = parse_list(read_line(folder + "/cpulist"), kMaxCpu);
  std::ifstream file(folder + "/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    char field[64];
    long long kib = 0;
    if (std::sscanf(line.c_str(), "Node %*d %63[^:]: %lld", field, &kib) != 2) continue;
    const std::string name = field;
    if (name == "MemTotal") node.total_bytes = kib << 10;
    if (name == "MemFree" || name == "Active(file)" || name == "Inactive(file)") {
      node.available_bytes += kib << 10;
    }
  }
  for (const int64_t page_bytes : {kHugePage, kGiantPage}) {
    const HugePool pool = read_huge_pool(root, page_bytes, id);
    node.pool_bytes = std::max(node.pool_bytes, pool.available * page_bytes);
  }
  return node;
}

int kernel_mode(NumaMode mode) {
  switch (mode) {
    case NumaMode::kPrefer:
      return MPOL_PREFERRED;
    case NumaMode::kBind:
      return MPOL_BIND;
    case NumaMode::kInterleave:
      return MPOL_INTERLEAVE;
    case NumaMode::kDefault:
      break;
  }
  return MPOL_DEFAULT;
}

}  // namespace

const NumaNode* NumaTopology::find(int id) const {
  for (const NumaNode& node : nodes) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

int NumaTopology::node_of_cpu(int cpu) const {
  for (const NumaNode& node : nodes) {
    if (std::find(node.cpus.begin(), node.cpus.end(), cpu) != node.cpus.end()) return node.id;
  }
  return nodes.front().id;
}

int NumaTopology::current_node() const {
  return nodes.size() == 1 ? nodes.front().id : node_of_cpu(sched_getcpu());
}

std::string NumaTopology::list() const {
  std::string text;
  for (const NumaNode& node : nodes) {
    if (!text.empty()) text += ", ";
    text += std::to_string(node.id);
  }
  return text;
}

NumaTopology read_numa_topology(const std::string& root) {
  NumaTopology topology;
  const std::string folder = root + "/sys/devices/system/node/";
  std::string ids = read_line(folder + "has_memory");
  if (ids.empty()) ids = read_line(folder + "has_normal_memory");
  for (const int id : parse_list(ids, kMaxNode)) topology.nodes.push_back(read_node(root, id));
  if (topology.nodes.empty()) {
    NumaNode all;
    all.available_bytes = available_bytes(root);
    all.total_bytes = all.available_bytes;
    topology.nodes.push_back(all);
  }
  return topology;
}

Status place_pages(void* data, int64_t bytes, NumaMode mode, const std::vector<int>& nodes) {
  if (mode == NumaMode::kDefault) return Status();
  constexpr int kWordBits = 64;
  unsigned long mask[kMaxNode / kWordBits] = {};
  std::string list;
  for (const int node : nodes) {
    ENGRAM_CHECK(node >= 0 && node < kMaxNode);
    mask[node / kWordBits] |= 1UL << (node % kWordBits);
    if (!list.empty()) list += ",";
    list += std::to_string(node);
  }
  if (syscall(SYS_mbind, data, bytes, kernel_mode(mode), mask, kMaxNode, 0) == 0) return Status();
  const int reason = errno;
  const std::string what = "NUMA placement on node " + list + " refused: " + std::strerror(reason);
  if (reason == EPERM || reason == ENOSYS) {
    return {
        Code::kPermissionDenied,
        what +
            " (a container needs the capability: docker run --cap-add SYS_NICE; Kubernetes "
            "securityContext.capabilities.add: [SYS_NICE])"};
  }
  return failed_precondition(what);
}

std::vector<int> nodes_of_pages(const void* data, int64_t bytes) {
  constexpr int64_t kSamples = 64;
  const int64_t pages = bytes / kSmallPage;
  const int64_t count = std::min(kSamples, pages);
  std::vector<const void*> addresses;
  for (int64_t i = 0; i < count; ++i) {
    addresses.push_back(static_cast<const char*>(data) + i * pages / count * kSmallPage);
  }
  std::vector<int> found(addresses.size(), -1);
  // Without target nodes the call moves nothing and tells where each page is.
  if (syscall(SYS_move_pages, 0, addresses.size(), addresses.data(), nullptr, found.data(), 0) !=
      0) {
    return {};
  }
  std::set<int> nodes;
  for (const int node : found) {
    if (node >= 0) nodes.insert(node);
  }
  return {nodes.begin(), nodes.end()};
}

}  // namespace engram::memory

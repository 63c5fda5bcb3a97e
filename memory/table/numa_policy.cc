#include "memory/table/numa_policy.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace engram::memory {
namespace {

// The table lies wholly in one kind of page, so the kinds do not add up.
int64_t capacity(const NumaNode& node) {
  return std::max(node.available_bytes, node.pool_bytes);
}

std::vector<int> all_nodes(const NumaTopology& topology) {
  std::vector<int> ids;
  for (const NumaNode& node : topology.nodes) ids.push_back(node.id);
  return ids;
}

Status check_node(const std::string& what, const NumaTopology& topology, int id, int64_t bytes) {
  const NumaNode* node = topology.find(id);
  if (node == nullptr) {
    return invalid_argument(
        what + ": NUMA node " + std::to_string(id) +
        " has no memory; nodes with memory: " + topology.list());
  }
  if (capacity(*node) >= bytes) return Status();
  return resource_exhausted(
      what + ": " + std::to_string(bytes) + " bytes wanted on NUMA node " + std::to_string(id) +
      ", " + std::to_string(capacity(*node)) + " available there");
}

NumaPlan one_copy(NumaMode mode, std::vector<int> nodes, std::string reason) {
  return {{{mode, std::move(nodes)}}, std::move(reason)};
}

NumaPlan copy_per_node(const std::vector<int>& nodes, std::string reason) {
  NumaPlan plan{{}, std::move(reason)};
  for (const int node : nodes) plan.copies.push_back({NumaMode::kBind, {node}});
  return plan;
}

bool all_fit(const NumaTopology& topology, const std::vector<int>& nodes, int64_t bytes) {
  return std::all_of(nodes.begin(), nodes.end(), [&](int id) {
    const NumaNode* node = topology.find(id);
    return node != nullptr && capacity(*node) >= bytes;
  });
}

// REQUIRES: several nodes.
NumaPlan plan_auto(
    int64_t bytes, const NumaTopology& topology, const std::vector<int>& gpu_nodes, int local) {
  const NumaMode spread = NumaMode::kInterleave;
  if (gpu_nodes.size() > 1) {
    if (all_fit(topology, gpu_nodes, bytes)) {
      return copy_per_node(gpu_nodes, "auto: one copy near each GPU");
    }
    return one_copy(
        spread, all_nodes(topology), "auto: GPUs on several nodes, no room for a copy on each");
  }
  if (gpu_nodes.size() == 1) {
    if (all_fit(topology, gpu_nodes, bytes)) {
      return one_copy(NumaMode::kBind, gpu_nodes, "auto: near the GPU");
    }
    return one_copy(spread, all_nodes(topology), "auto: no room on the GPU's node");
  }
  if (all_fit(topology, {local}, bytes)) {
    return one_copy(NumaMode::kPrefer, {local}, "auto: fits the loading thread's node");
  }
  return one_copy(spread, all_nodes(topology), "auto: larger than what one node has free");
}

}  // namespace

Result<NumaPolicy> parse_numa_policy(const std::string& text) {
  using Kind = NumaPolicy::Kind;
  if (text == "auto") return NumaPolicy{Kind::kAuto, 0};
  if (text == "none") return NumaPolicy{Kind::kNone, 0};
  if (text == "interleave") return NumaPolicy{Kind::kInterleave, 0};
  if (text == "replicate") return NumaPolicy{Kind::kReplicate, 0};
  if (text.starts_with("bind:")) {
    int node = -1;
    const char* end = text.data() + text.size();
    const std::from_chars_result r = std::from_chars(text.data() + 5, end, node);
    if (r.ec == std::errc() && r.ptr == end && node >= 0) return NumaPolicy{Kind::kBind, node};
  }
  return invalid_argument(
      "NUMA policy: expected auto, none, bind:N, interleave or replicate, found \"" + text + "\"");
}

std::string numa_policy_text(const NumaPolicy& policy) {
  switch (policy.kind) {
    case NumaPolicy::Kind::kAuto:
      return "auto";
    case NumaPolicy::Kind::kNone:
      return "none";
    case NumaPolicy::Kind::kBind:
      return "bind:" + std::to_string(policy.node);
    case NumaPolicy::Kind::kInterleave:
      return "interleave";
    case NumaPolicy::Kind::kReplicate:
      break;
  }
  return "replicate";
}

Result<NumaPlan> plan_numa(
    const std::string& what,
    int64_t bytes,
    const NumaPolicy& policy,
    const NumaTopology& topology,
    const std::vector<int>& gpu_nodes,
    int local) {
  std::set<int> known;  // a GPU's node may be unknown (-1) or have no memory
  for (const int id : gpu_nodes) {
    if (topology.find(id) != nullptr) known.insert(id);
  }
  const std::vector<int> near(known.begin(), known.end());
  const bool one_node = topology.nodes.size() == 1;
  switch (policy.kind) {
    case NumaPolicy::Kind::kNone:
      return one_copy(NumaMode::kDefault, {}, "none: the kernel's");
    case NumaPolicy::Kind::kBind:
      ENGRAM_RETURN_IF_ERROR(check_node(what, topology, policy.node, bytes));
      return one_copy(NumaMode::kBind, {policy.node}, numa_policy_text(policy));
    case NumaPolicy::Kind::kInterleave:
      if (one_node) break;
      return one_copy(NumaMode::kInterleave, all_nodes(topology), "interleave");
    case NumaPolicy::Kind::kReplicate: {
      if (one_node) break;
      const std::vector<int> nodes = near.size() > 1 ? near : all_nodes(topology);
      for (const int id : nodes) ENGRAM_RETURN_IF_ERROR(check_node(what, topology, id, bytes));
      return copy_per_node(nodes, "replicate");
    }
    case NumaPolicy::Kind::kAuto:
      if (one_node) break;
      return plan_auto(bytes, topology, near, local);
  }
  return one_copy(NumaMode::kDefault, {}, numa_policy_text(policy) + ": one NUMA node");
}

}  // namespace engram::memory

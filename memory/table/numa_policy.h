// On which NUMA nodes a table's pages should lie. A pure decision from the wish, the machine and
// the nodes of the GPUs that read the table.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/device/numa.h"

namespace engram::memory {

struct NumaPolicy {
  enum class Kind : uint8_t {
    kAuto,  // near the GPU; replicate when several nodes have GPUs and it fits; else interleave
    kNone,  // the kernel decides
    kBind,  // on `node` only
    kInterleave,  // page by page over all nodes
    kReplicate,   // one copy per node
  };
  Kind kind = Kind::kAuto;
  int node = 0;  // kBind
};

// "auto", "none", "bind:N", "interleave", "replicate"; INVALID_ARGUMENT lists them.
Result<NumaPolicy> parse_numa_policy(const std::string& text);
std::string numa_policy_text(const NumaPolicy& policy);

// One copy of the table.
struct NumaPlacement {
  NumaMode mode = NumaMode::kDefault;
  std::vector<int> nodes;
};

struct NumaPlan {
  std::vector<NumaPlacement> copies;  // at least one
  std::string reason;                 // "one NUMA node"
};

// gpu_nodes: nodes of the GPUs that read the table; none when there are none or it is unknown.
// `local` is the node of the calling thread. INVALID_ARGUMENT: a node that is not there.
// RESOURCE_EXHAUSTED: an explicit wish that does not fit, with the numbers of the node.
Result<NumaPlan> plan_numa(
    const std::string& what,
    int64_t bytes,
    const NumaPolicy& policy,
    const NumaTopology& topology,
    const std::vector<int>& gpu_nodes,
    int local);

}  // namespace engram::memory

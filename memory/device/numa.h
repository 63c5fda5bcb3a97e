// The machine's NUMA nodes, and which of them pages come from. Raw system calls: nothing to link.
// Functions that take a `root` read the kernel's files below it; it is empty but in tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::memory {

struct NumaNode {
  int id = 0;
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;  // free, or page cache that can be dropped
  int64_t pool_bytes = 0;       // free explicit huge pages, the larger of its two pools
  std::vector<int> cpus;        // none: memory without cores (CXL, or a GPU's)
};

// Nodes that have memory, by id; at least one.
struct NumaTopology {
  std::vector<NumaNode> nodes;

  const NumaNode* find(int id) const;  // null: no such node
  // The node of a core; the first node when unknown.
  int node_of_cpu(int cpu) const;
  // The node of the core the calling thread runs on now.
  int current_node() const;
  std::string list() const;  // "0, 1"
};

// A machine whose kernel shows no nodes is one node with all memory and no list of cores.
NumaTopology read_numa_topology(const std::string& root);

enum class NumaMode : uint8_t {
  kDefault,     // the node of the thread that touches first
  kPrefer,      // one node while it has memory, then others
  kBind,        // these nodes only
  kInterleave,  // page by page over these nodes
};

// Says where the pages of a mapping come from when they are touched. PERMISSION_DENIED when the
// container forbids it, with the way out; FAILED_PRECONDITION when the kernel refuses the nodes.
Status place_pages(void* data, int64_t bytes, NumaMode mode, const std::vector<int>& nodes);

// Nodes that touched pages lie on, by 64 samples; none when the kernel does not say.
std::vector<int> nodes_of_pages(const void* data, int64_t bytes);

}  // namespace engram::memory

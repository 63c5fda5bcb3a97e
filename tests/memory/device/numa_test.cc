#include "memory/device/numa.h"

#include <catch2/catch.hpp>
#include <cstdio>

#include "memory/device/host_pages.h"
#include "tests/support/fake_nodes.h"

namespace engram::memory {
namespace {

TEST_CASE("the topology of two nodes", "[numa]") {
  const FakeRoot root;
  write_two_nodes(root, 1000, 2000);
  root.write(
      "sys/devices/system/node/node1/meminfo",
      "Node 1 MemTotal: 5000 kB\nNode 1 MemFree: 100 kB\nNode 1 Inactive(anon): 7 kB\n"
      "Node 1 Active(file): 20 kB\nNode 1 Inactive(file): 3 kB\n");
  const std::string pool = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/";
  root.write(pool + "nr_hugepages", "9\n");
  root.write(pool + "free_hugepages", "4\n");
  const NumaTopology topology = read_numa_topology(root.path());
  REQUIRE(topology.nodes.size() == 2);
  CHECK(topology.list() == "0, 1");
  CHECK(topology.nodes[0].available_bytes == 1000 * 1024);
  CHECK(topology.nodes[1].total_bytes == 5000 * 1024);
  CHECK(topology.nodes[1].available_bytes == 123 * 1024);
  CHECK(topology.nodes[0].pool_bytes == 0);
  CHECK(topology.nodes[1].pool_bytes == 4 * kHugePage);
  CHECK(topology.node_of_cpu(4) == 0);
  CHECK(topology.node_of_cpu(7) == 1);
  CHECK(topology.node_of_cpu(4000) == 0);
  CHECK(topology.find(1) == &topology.nodes[1]);
  CHECK(topology.find(2) == nullptr);
}

TEST_CASE("a kernel without nodes is one node with all memory", "[numa]") {
  const FakeRoot root;
  root.write("proc/meminfo", "MemAvailable:   50 kB\n");
  const NumaTopology topology = read_numa_topology(root.path());
  REQUIRE(topology.nodes.size() == 1);
  CHECK(topology.nodes[0].available_bytes == 50 * 1024);
  CHECK(topology.current_node() == 0);
}

TEST_CASE("pages come from the node they were placed on", "[numa]") {
  const NumaTopology topology = read_numa_topology("");
  REQUIRE(!topology.nodes.empty());
  const int64_t size = 4 * kHugePage;
  for (const NumaMode mode :
       {NumaMode::kDefault, NumaMode::kPrefer, NumaMode::kBind, NumaMode::kInterleave}) {
    for (const NumaNode& node : topology.nodes) {
      CAPTURE(static_cast<int>(mode), node.id);
      void* data = reserve_pages(size, kHugePage);
      REQUIRE(map_pages(data, size, 0, -1));
      const Status placed = place_pages(data, size, mode, {node.id});
      if (!placed.ok()) {
        std::printf("SKIPPED: %s\n", placed.to_string().c_str());
        release_pages(data, size);
        return;
      }
      REQUIRE(populate_pages(data, size, 1) == 0);
      const std::vector<int> nodes = nodes_of_pages(data, size);
      if (mode != NumaMode::kDefault && !nodes.empty()) CHECK(nodes == std::vector<int>{node.id});
      release_pages(data, size);
    }
  }
}

TEST_CASE("a node that is not there is refused with a reason", "[numa]") {
  void* data = reserve_pages(kHugePage, kHugePage);
  REQUIRE(map_pages(data, kHugePage, 0, -1));
  const Status placed = place_pages(data, kHugePage, NumaMode::kBind, {1000});
  REQUIRE_FALSE(placed.ok());
  CHECK_THAT(placed.message(), Catch::Contains("node 1000"));
  release_pages(data, kHugePage);
}

}  // namespace
}  // namespace engram::memory

// Tables in host memory that the driver of a GPU allocates, and what becomes of them where it does
// not. Under emulation only, whose machine can be made to refuse.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "memory/device/device_cuda.h"
#include "memory/device/host_pages.h"
#include "memory/table/host_arena.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/fake_nodes.h"

namespace engram::memory {
namespace {

using Catch::Contains;
using cuda_emulation::Machine;

constexpr int64_t kBytes = 3 * kHugePage + 77;

// A machine that answers so while the object lives.
class With {
 public:
  explicit With(const Machine& machine) { cuda_emulation::machine() = machine; }
  With(const With&) = delete;
  With& operator=(const With&) = delete;
  ~With() { cuda_emulation::machine() = {}; }
};

TableMemory allocate(const ArenaOptions& options, Device& device) {
  Result<TableMemory> memory = allocate_table_memory("table of layer 3", kBytes, options, &device);
  REQUIRE(memory.ok());
  return std::move(memory).value();
}

TEST_CASE("a GPU's table lies in memory of its driver, zeroed and pinned", "[device_pages]") {
  const std::unique_ptr<Device> device = make_cuda_device(0).value();
  ArenaOptions options;
  options.pin = PinPages::kRequire;
  TableMemory memory = allocate(options, *device);
  CHECK(memory.copy_pages(0) == PageKind::kDevice);
  CHECK(memory.copy_huge_share(0) == 1.);
  CHECK(memory.mapped_bytes(0) == 4 * kHugePage);
  CHECK(memory.descriptor(0) == -1);
  CHECK(device->reads_host(memory.data()));
  CHECK(device->reads_host(memory.data() + kBytes - 1));
  CHECK(std::all_of(memory.data(), memory.data() + kBytes, [](uint8_t b) { return b == 0; }));
  std::fill(memory.data(), memory.data() + kBytes, uint8_t{7});
  REQUIRE(memory.settle(0, kBytes).ok());
  const ArenaReport report = memory.report();
  CHECK(report.pinned_bytes == 4 * kHugePage);
  CHECK(report.findings.empty());
  CHECK_THAT(report.text(), Contains("of 2 MiB cuMemCreate pages, 100 % huge"));
  CHECK_THAT(report.text(), Contains("8.0 MiB pinned"));
  memory.unpin();  // it stays what it is
  CHECK(memory.report().pinned_bytes == 4 * kHugePage);
}

TEST_CASE("what the driver refuses comes from the next rung, registered", "[device_pages]") {
  const std::unique_ptr<Device> device = make_cuda_device(0).value();
  ArenaOptions options;
  options.pin = PinPages::kRequire;
  Machine machine;
  std::string reason;
  SECTION("no such memory") {
    machine.host_memory_of_driver = false;
    reason = "cuMemCreate pages refused: this GPU has no host memory";
  }
  SECTION("too little of it") {
    machine.most_host_memory = kHugePage;
    reason = "cuMemCreate of 8388608 bytes: CUDA_ERROR_OUT_OF_MEMORY";
  }
  const With with(machine);
  TableMemory memory = allocate(options, *device);
  CHECK(memory.copy_pages(0) != PageKind::kDevice);
  REQUIRE(memory.settle(0, kBytes).ok());
  CHECK(device->reads_host(memory.data()));
  const ArenaReport report = memory.report();
  CHECK(report.pinned_bytes >= kBytes);
  REQUIRE_FALSE(report.findings.empty());
  CHECK_THAT(report.findings.front(), Contains(reason));
}

TEST_CASE("tables that are shared, not pinned or told so are not the driver's", "[device_pages]") {
  const std::unique_ptr<Device> device = make_cuda_device(0).value();
  ArenaOptions options;
  options.pin = PinPages::kTry;
  SECTION("shareable") {
    options.shareable = true;
  }
  SECTION("not pinned") {
    options.pin = PinPages::kNo;
  }
  SECTION("small pages") {
    options.huge = HugePages::kOff;
  }
  SECTION("told so") {
    options.device_pages = false;
  }
  const TableMemory memory = allocate(options, *device);
  CHECK(memory.copy_pages(0) != PageKind::kDevice);
  CHECK(memory.report().findings.empty());
}

// The pools hold what the table wants; nothing else would.
TEST_CASE("memory that only the pools have is not asked of the driver", "[device_pages]") {
  const std::unique_ptr<Device> device = make_cuda_device(0).value();
  const FakeRoot root;
  root.write("proc/meminfo", "MemAvailable: 66000 kB\n");
  const std::string pool = "sys/kernel/mm/hugepages/hugepages-2048kB/";
  root.write(pool + "nr_hugepages", "64\n");
  root.write(pool + "free_hugepages", "64\n");
  ArenaOptions options;
  options.root = root.path();
  options.pin = PinPages::kTry;
  const Result<TableMemory> memory = allocate_table_memory("table", kBytes, options, device.get());
  // Whether the machine really has such a pool decides what follows.
  CHECK_FALSE((memory.ok() && memory.value().copy_pages(0) == PageKind::kDevice));
}

TEST_CASE("the driver's memory is of one NUMA node", "[device_pages]") {
  const std::unique_ptr<Device> device = make_cuda_device(0).value();
  FakeRoot root;
  write_two_nodes(root, 4'000'000, 4'000'000);
  root.write("proc/meminfo", "MemAvailable: 8000000 kB\n");
  ArenaOptions options;
  options.root = root.path();
  options.pin = PinPages::kTry;
  SECTION("of the one that is asked for") {
    options.numa = {NumaPolicy::Kind::kBind, 0};
    CHECK(allocate(options, *device).copy_pages(0) == PageKind::kDevice);
  }
  SECTION("of none that has no memory for it") {
    options.numa = {NumaPolicy::Kind::kBind, 1};  // the emulation has node 0 only
    const ArenaReport report = allocate(options, *device).report();
    CHECK(report.pages != PageKind::kDevice);
    REQUIRE_FALSE(report.findings.empty());
    CHECK_THAT(report.findings.front(), Contains("CUDA_ERROR_INVALID_VALUE"));
  }
  SECTION("so that pages which alternate are others") {
    options.numa = {NumaPolicy::Kind::kInterleave, 0};
    const ArenaReport report = allocate(options, *device).report();
    CHECK(report.pages != PageKind::kDevice);
    REQUIRE_FALSE(report.findings.empty());
    CHECK_THAT(report.findings.front(), Contains("they lie on one NUMA node"));
  }
}

}  // namespace
}  // namespace engram::memory

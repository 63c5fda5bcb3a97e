// Facts from a made-up /proc, the loops that measure memory, and the thread that disturbs.
#include "tools/bench/machine_facts.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/temp_directory.h"
#include "tools/bench/contention.h"
#include "tools/bench/peaks.h"

namespace engram::tools::bench {

TEST_CASE("machine facts: what the kernel's files say, and nothing where they are not") {
  const tests::TempDirectory root;
  std::filesystem::create_directory(root.file("proc"));
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name : B\n");
  root.write("proc/meminfo", "MemTotal:        1024 kB\nMemFree: 5 kB\n");
  const MachineFacts facts = read_machine_facts(root.path());
  CHECK(facts.cpu == "A CPU @ 2 GHz");
  CHECK(facts.memory_bytes == 1024 * 1024);
  CHECK(facts.cores > 0);
  CHECK(facts.numa_nodes == 1);
  const MachineFacts none = read_machine_facts(root.file("none"));
  CHECK(none.cpu.empty());
  CHECK(none.memory_bytes == 0);
}

TEST_CASE("machine facts: the link of the first GPU") {
  const tests::TempDirectory root;
  const auto device = [&](const char* name, const char* vendor, const char* kind) {
    const std::string path = std::string("sys/bus/pci/devices/") + name;
    std::filesystem::create_directories(root.file(path));
    root.write(path + "/vendor", vendor);
    root.write(path + "/class", kind);
    root.write(path + "/current_link_speed", "32.0 GT/s PCIe\n");
    root.write(path + "/current_link_width", "16\n");
  };
  device("0000:00:01.0", "0x8086\n", "0x030000\n");
  device("0000:00:02.0", "0x10de\n", "0x068000\n");
  CHECK(read_machine_facts(root.path()).link_generation == 0);
  device("0000:00:03.0", "0x10de\n", "0x030200\n");
  CHECK(read_machine_facts(root.path()).link_generation == 5);
  CHECK(read_machine_facts(root.path()).link_width == 16);
}

TEST_CASE("machine facts: of several tables the least") {
  std::vector<memory::TableReport> tables(2);
  tables[0].memory = "n-gram table of layer 1: 1.00 GiB of transparent huge pages, 97 % huge, fast";
  tables[0].huge_share = 0.97;
  tables[0].numa_nodes = {1};
  tables[1].huge_share = 0.5;
  tables[1].numa_nodes = {0, 1};
  MachineFacts facts;
  describe_tables(tables, &facts);
  CHECK(facts.page_mode == "transparent huge pages, 50 % huge");
  CHECK(facts.table_nodes == std::vector<int>{0, 1});
  MachineFacts nothing;
  describe_tables({}, &nothing);
  CHECK(nothing.page_mode.empty());
}

TEST_CASE("peaks: every byte is read, and there are rates") {
  std::vector<uint8_t> bytes(8192, 0);
  const uint64_t before = read_all(bytes.data(), 8192, 0);
  for (const size_t at : {size_t{0}, size_t{1024}, size_t{4096}, size_t{7168}}) {
    bytes[at] = 1;
    // Of an exclusive or by lanes the first lane is told.
    CHECK(read_all(bytes.data(), 8192, 4096) != before);
    bytes[at] = 0;
  }
  const memory::Result<MemoryPeaks> peaks = measure_memory_peaks(2, int64_t{4} << 20);
  REQUIRE(peaks.ok());
  CHECK(peaks.value().read_gbps > 0);
  CHECK(peaks.value().copy_gbps > 0);
  CHECK_FALSE(measure_memory_peaks(1, int64_t{1} << 50).ok());
  const std::unique_ptr<memory::Device> device = memory::make_cpu_device(1);
  CHECK(measure_link(*device, int64_t{1} << 20).value() > 0);
}

TEST_CASE("contention: copies until it is let go") {
  memory::Result<std::unique_ptr<Contention>> contention = Contention::start(int64_t{4} << 20);
  REQUIRE(contention.ok());
  while (contention.value()->gbps() == 0) std::this_thread::yield();
  CHECK(contention.value()->gbps() > 0);
  contention.value().reset();
  CHECK_FALSE(Contention::start(int64_t{1} << 50).ok());
}

}  // namespace engram::tools::bench

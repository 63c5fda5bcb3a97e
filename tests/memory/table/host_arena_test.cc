#include "memory/table/host_arena.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <random>
#include <set>
#include <thread>

#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"
#include "tests/support/fake_nodes.h"

namespace engram::memory {
namespace {

// A device that keeps a list of what is pinned and refuses after some calls.
class ListingDevice : public Device {
 public:
  std::string name() const override { return "listing"; }
  std::unique_ptr<Stream> make_stream(const std::string&, StreamPriority) override {
    return nullptr;
  }
  std::unique_ptr<Event> make_event() override { return nullptr; }
  void copy(Stream&, void*, const void*, int64_t) override {}
  void copy_rows(Stream&, View, View, const int32_t*, int64_t) override {}
  bool host_reads_buffers() const override { return true; }
  bool reads_host(const void*) const override { return true; }
  bool times_waits() const override { return true; }
  int64_t available_bytes() const override { return 0; }
  Status pin(const HostRange& range) override {
    if (calls_left-- <= 0) return resource_exhausted("no more pins");
    ranges.push_back(range);
    return Status();
  }
  void unpin(const HostRange& range) override {
    const auto found = std::find_if(ranges.begin(), ranges.end(), [&](const HostRange& r) {
      return r.data == range.data && r.bytes == range.bytes;
    });
    REQUIRE(found != ranges.end());
    ranges.erase(found);
  }
  int numa_node() const override { return node; }

  std::vector<HostRange> ranges;
  int calls_left = 1 << 20;
  int node = -1;

 private:
  Result<Buffer> do_allocate(const std::string&, int64_t) override { return Buffer(); }
  Result<Buffer> do_allocate_pinned(const std::string&, int64_t) override { return Buffer(); }
};

Result<TableMemory> allocate(int64_t bytes, const ArenaOptions& options) {
  return allocate_table_memory("table of layer 3", bytes, options, nullptr);
}

// A whole machine's files with memory to spare and no pools.
void write_machine(const FakeRoot& root) {
  root.write("proc/meminfo", "MemAvailable: 4000000 kB\n");
}

TEST_CASE("table memory is aligned, zeroed, writable, and says what it is", "[arena]") {
  for (const bool shareable : {false, true}) {
    for (const HugePages huge : {HugePages::kAuto, HugePages::kOff}) {
      for (const int64_t bytes : {int64_t{1}, int64_t{5000}, 5 * kHugePage + 77}) {
        CAPTURE(shareable, static_cast<int>(huge), bytes);
        ArenaOptions options;
        options.huge = huge;
        options.shareable = shareable;
        options.threads = 2;
        Result<TableMemory> memory = allocate(bytes, options);
        REQUIRE(memory.ok());
        const TableMemory& table = memory.value();
        CHECK(table.bytes() == bytes);
        CHECK(table.mapped_bytes(0) >= bytes);
        CHECK(table.copies() == 1);
        CHECK(table.local() == table.data());
        CHECK(reinterpret_cast<int64_t>(table.data()) % kHugePage == 0);
        CHECK(std::all_of(table.data(), table.data() + bytes, [](uint8_t b) { return b == 0; }));
        std::memset(table.data(), 7, static_cast<size_t>(bytes));
        CHECK((table.descriptor(0) >= 0) == shareable);
        const ArenaReport report = table.report();
        CHECK_THAT(report.text(), Catch::Contains("table of layer 3"));
        CHECK_THAT(report.text(), !Catch::Contains("pinned"));
        if (huge == HugePages::kOff) {
          CHECK(report.pages == PageKind::kSmall);
          CHECK(report.huge_share == 0.);
        }
      }
    }
  }
}

TEST_CASE("explicit huge pages come first when the pool holds them all", "[arena]") {
  const HugePool pool = read_huge_pool("", kHugePage, -1);
  if (pool.available < 4 || !can_populate()) {
    std::printf("SKIPPED: fewer than 4 free 2 MiB pages in the pool, or a kernel before 5.14\n");
    return;
  }
  for (const bool shareable : {false, true}) {
    ArenaOptions options;
    options.huge = HugePages::kRequire;
    options.shareable = shareable;
    Result<TableMemory> memory = allocate(4 * kHugePage, options);
    REQUIRE(memory.ok());
    CHECK(memory.value().report().pages == PageKind::kHugetlb2M);
    CHECK(memory.value().report().huge_share == 1.);
    CHECK(memory.value().report().findings.empty());
  }
  // One page more than there are: another rung, without touching the pool.
  const int64_t available = read_huge_pool("", kHugePage, -1).available;
  if (available_bytes("") < (available + 100) * kHugePage || available > 512) {
    std::printf("SKIPPED: the pool is too large to be exceeded in a test\n");
    return;
  }
  Result<TableMemory> beyond = allocate((available + 1) * kHugePage, ArenaOptions());
  REQUIRE(beyond.ok());
  CHECK(beyond.value().report().pages != PageKind::kHugetlb2M);
  REQUIRE(!beyond.value().report().findings.empty());
  CHECK_THAT(beyond.value().report().findings[0], Catch::Contains("2 MiB hugetlb pool"));
  CHECK(read_huge_pool("", kHugePage, -1).available == available);
}

TEST_CASE("a pool that promises more than the kernel gives is not trusted", "[arena]") {
  const FakeRoot root;
  write_machine(root);
  const HugePool real = read_huge_pool("", kHugePage, -1);
  const std::string folder = "sys/kernel/mm/hugepages/hugepages-2048kB/";
  root.write(folder + "nr_hugepages", "1000000\n");
  root.write(folder + "free_hugepages", "1000000\n");
  const int64_t bytes = (real.available + 3) * kHugePage;
  if (bytes > kGiantPage) {
    std::printf("SKIPPED: the pool is too large to be exceeded in a test\n");
    return;
  }
  for (const bool shareable : {false, true}) {
    ArenaOptions options;
    options.root = root.path();
    options.shareable = shareable;
    Result<TableMemory> memory = allocate(bytes, options);
    REQUIRE(memory.ok());
    CHECK(memory.value().report().pages != PageKind::kHugetlb2M);
    CHECK_THAT(memory.value().report().findings[0], Catch::Contains("refused"));
  }
}

TEST_CASE("required huge pages that are not there name the command", "[arena]") {
  const FakeRoot root;
  write_machine(root);
  const std::string folder = "sys/kernel/mm/hugepages/hugepages-2048kB/";
  root.write(folder + "nr_hugepages", "5\n");
  root.write(folder + "free_hugepages", "2\n");
  ArenaOptions options;
  options.root = root.path();
  options.huge = HugePages::kRequire;
  REQUIRE(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  const Result<TableMemory> memory = allocate(8 * kHugePage, options);
  options.huge = HugePages::kAuto;
  const Result<TableMemory> small = allocate(31 * kHugePage, options);
  const Result<TableMemory> large = allocate(32 * kHugePage, options);
  REQUIRE(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) == 0);
  if (memory.ok()) {
    std::printf("SKIPPED: this kernel makes huge pages for a process that declines them\n");
    return;
  }
  CHECK(memory.status().code() == Code::kFailedPrecondition);
  CHECK_THAT(memory.status().message(), Catch::Contains("vm.nr_hugepages=11"));
  // Where they are only wished for, a table has to be of some size for small pages to be slow.
  REQUIRE(small.ok());
  CHECK(small.value().report().pages == PageKind::kSmall);
  CHECK_THAT(small.value().report().text(), !Catch::Contains("slow"));
  REQUIRE(large.ok());
  CHECK(large.value().report().pages == PageKind::kSmall);
  CHECK_THAT(
      large.value().report().text(),
      Catch::Contains("will be slow") && Catch::Contains("vm.nr_hugepages=35"));
}

TEST_CASE("a plan that does not fit is refused with the numbers, nothing taken", "[arena]") {
  const FakeRoot root;
  root.write("proc/meminfo", "MemAvailable: 100000 kB\n");
  ArenaOptions options;
  options.root = root.path();
  const int64_t bytes = 16 << 20;
  CHECK(allocate(bytes, options).ok());
  options.other_bytes = 30 << 20;
  const Status status = allocate(bytes, options).status();
  CHECK(status.code() == Code::kResourceExhausted);
  CHECK_THAT(
      status.message(), Catch::Contains(std::to_string(bytes)) &&
                            Catch::Contains(std::to_string(options.other_bytes)) &&
                            Catch::Contains(std::to_string(100000 * 1024)));
  CHECK(allocate(0, ArenaOptions()).status().code() == Code::kInvalidArgument);
}

TEST_CASE("a memfd is sealed against writers and resizing", "[arena]") {
  for (const HugePages huge : {HugePages::kAuto, HugePages::kOff}) {
    ArenaOptions options;
    options.shareable = true;
    options.huge = huge;
    Result<TableMemory> memory = allocate(4 * kHugePage, options);
    REQUIRE(memory.ok());
    const int descriptor = memory.value().descriptor(0);
    const size_t size = static_cast<size_t>(memory.value().mapped_bytes(0));
    CHECK(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) == MAP_FAILED);
    CHECK(ftruncate(descriptor, 0) != 0);
    CHECK(pwrite(descriptor, "x", 1, 0) < 0);
    CHECK(fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0);
    void* view = mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
    REQUIRE(view != MAP_FAILED);
    CHECK(mprotect(view, size, PROT_READ | PROT_WRITE) != 0);
    memory.value().data()[12345] = 9;  // the owner still loads
    CHECK(static_cast<const uint8_t*>(view)[12345] == 9);
    munmap(view, size);
  }
}

TEST_CASE("pins are segments of every filled range, undone when one is refused", "[arena]") {
  ListingDevice device;
  ArenaOptions options;
  options.pin = PinPages::kTry;
  const int64_t bytes = 10 * kSmallPage + 100;
  {
    Result<TableMemory> memory = allocate_table_memory("t", bytes, options, &device);
    REQUIRE(memory.ok());
    TableMemory& table = memory.value();
    REQUIRE(table.settle(0, 4 * kSmallPage).ok());
    REQUIRE(table.settle(4 * kSmallPage, bytes - 4 * kSmallPage).ok());
    REQUIRE(device.ranges.size() == 2);
    CHECK(device.ranges[0].data == table.data());
    CHECK(device.ranges[1].bytes == 7 * kSmallPage);
    CHECK(table.report().pinned_bytes == 11 * kSmallPage);
    CHECK_THAT(table.report().text(), Catch::Contains(", 44.0 KiB pinned in "));
    TableMemory moved = std::move(table);
    CHECK(device.ranges.size() == 2);
  }
  CHECK(device.ranges.empty());

  for (const PinPages wish : {PinPages::kTry, PinPages::kRequire}) {
    options.pin = wish;
    device.calls_left = 1;
    Result<TableMemory> memory = allocate_table_memory("t", bytes, options, &device);
    REQUIRE(memory.ok());
    TableMemory& table = memory.value();
    CHECK(table.settle(0, kSmallPage).ok());
    const Status second = table.settle(kSmallPage, kSmallPage);
    CHECK(second.ok() == (wish == PinPages::kTry));
    CHECK(device.ranges.empty());
    CHECK(table.report().pinned_bytes == 0);
    REQUIRE(!table.report().findings.empty());
    CHECK_THAT(table.report().findings.back(), Catch::Contains("no more pins"));
    device.calls_left = 1 << 20;
    CHECK(table.settle(2 * kSmallPage, kSmallPage).ok());
    // One refusal ends the attempts, unless each must succeed.
    CHECK(device.ranges.size() == (wish == PinPages::kTry ? 0 : 1));
  }
}

// Capabilities belong to a thread in Linux: this one loses the right to exceed the memlock limit.
void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  ENGRAM_CHECK(syscall(SYS_capset, &header, data) == 0);
}

TEST_CASE("a refused memlock is a finding with the way out", "[arena]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_MEMLOCK, &before) == 0);
  rlimit small = before;
  small.rlim_cur = 1 << 16;
  REQUIRE(setrlimit(RLIMIT_MEMLOCK, &small) == 0);
  ArenaOptions options;
  options.huge = HugePages::kOff;  // explicit huge pages need no lock
  options.pin = PinPages::kTry;
  Result<TableMemory> memory = allocate_table_memory("t", 8 << 20, options, device.get());
  REQUIRE(memory.ok());
  Status settled = internal("not run");
  Status pinned;
  std::thread([&] {
    drop_capabilities();
    settled = memory.value().settle(0, 8 << 20);
    pinned = memory.value().pin(0, 8 << 20);
  }).join();
  REQUIRE(setrlimit(RLIMIT_MEMLOCK, &before) == 0);
  CHECK(settled.ok());
  CHECK(pinned.code() == Code::kResourceExhausted);
  CHECK_THAT(pinned.message(), Catch::Contains("65536") && Catch::Contains("memlock=-1"));
  CHECK_THAT(memory.value().report().text(), Catch::Contains("not pinned"));
}

int64_t locked_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word != "VmLck:") continue;
    int64_t kib = 0;
    status >> kib;
    return kib << 10;
  }
  return -1;
}

TEST_CASE("the CPU locks pages and gives them back", "[arena]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  ArenaOptions options;
  options.huge = HugePages::kOff;
  const int64_t before = locked_bytes();
  {
    Result<TableMemory> memory = allocate_table_memory("t", 1 << 20, options, device.get());
    REQUIRE(memory.ok());
    const Status pinned = memory.value().pin(0, 1 << 20);
    if (!pinned.ok()) {
      std::printf("SKIPPED: %s\n", pinned.to_string().c_str());
      return;
    }
    CHECK(locked_bytes() == before + (1 << 20));
    CHECK(memory.value().report().pinned_bytes == 1 << 20);
    memory.value().unpin();
    CHECK(locked_bytes() == before);
    REQUIRE(memory.value().pin(0, 1 << 20).ok());
  }
  CHECK(locked_bytes() == before);
}

TEST_CASE("a replicated table has a copy per node and gives each thread its own", "[arena]") {
  const FakeRoot root;
  write_machine(root);
  write_two_nodes(root, 2000000, 2000000);
  ListingDevice device;
  for (const bool shareable : {false, true}) {
    ArenaOptions options;
    options.root = root.path();
    options.numa = {NumaPolicy::Kind::kReplicate, 0};
    options.pin = PinPages::kTry;
    options.shareable = shareable;
    const int64_t bytes = 3 * kHugePage + 12;
    Result<TableMemory> memory = allocate_table_memory("t", bytes, options, &device);
    REQUIRE(memory.ok());
    TableMemory& table = memory.value();
    REQUIRE(table.copies() == 2);
    CHECK(table.copy_node(0) == 0);
    CHECK(table.copy_node(1) == 1);
    CHECK(table.report().mapped_bytes >= 2 * bytes);
    CHECK((table.descriptor(1) >= 0) == shareable);

    constexpr uint32_t kSeed = 5;
    CAPTURE(kSeed);
    std::mt19937 random(kSeed);
    for (int64_t i = 0; i < bytes; ++i) table.data()[i] = static_cast<uint8_t>(random());
    REQUIRE(table.settle(0, kHugePage).ok());
    REQUIRE(table.settle(kHugePage, bytes - kHugePage).ok());
    CHECK(std::memcmp(table.copy(0), table.copy(1), static_cast<size_t>(bytes)) == 0);
    CHECK(device.ranges.size() == 4);

    // Even cores are on node 0, odd ones on node 1.
    for (int cpu = 0; cpu < 2; ++cpu) {
      const uint8_t* local = nullptr;
      bool moved = false;
      std::thread([&] {
        cpu_set_t mask;
        CPU_ZERO(&mask);
        CPU_SET(static_cast<size_t>(cpu), &mask);
        moved = sched_setaffinity(0, sizeof mask, &mask) == 0;
        local = table.local();
      }).join();
      if (!moved) {
        std::printf("SKIPPED: core %d is not this process's\n", cpu);
        continue;
      }
      CHECK(local == table.copy(cpu));
    }
  }
}

TEST_CASE("the device's node decides where an automatic table goes", "[arena]") {
  const FakeRoot root;
  write_machine(root);
  write_two_nodes(root, 2000000, 2000000);
  ListingDevice device;
  device.node = 0;
  ArenaOptions options;
  options.root = root.path();
  Result<TableMemory> near = allocate_table_memory("t", kHugePage, options, &device);
  REQUIRE(near.ok());
  CHECK(near.value().copies() == 1);
  CHECK(near.value().copy_node(0) == 0);
  options.gpu_nodes = {0, 1};
  Result<TableMemory> both = allocate_table_memory("t", kHugePage, options, &device);
  REQUIRE(both.ok());
  CHECK(both.value().copies() == 2);
}

}  // namespace
}  // namespace engram::memory

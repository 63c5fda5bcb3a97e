#include "memory/device/host_memory.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>

#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"
#include "tests/support/fake_root.h"

namespace engram::memory {
namespace {

TEST_CASE("host memory is aligned and zeroed at every size", "[host_memory]") {
  for (const int64_t bytes :
       {int64_t{1}, int64_t{64}, int64_t{1000}, int64_t{1} << 20, (int64_t{2} << 20) + 1,
        int64_t{4} << 20, (int64_t{5} << 20) + 3}) {
    CAPTURE(bytes);
    Result<Buffer> buffer = allocate_host("block", bytes);
    REQUIRE(buffer.ok());
    const uint8_t* data = buffer.value().as<uint8_t>();
    CHECK(reinterpret_cast<uint64_t>(data) % 64 == 0);
    CHECK(buffer.value().bytes() == bytes);
    CHECK(std::all_of(data, data + bytes, [](uint8_t b) { return b == 0; }));
    const double share = huge_page_share(data, bytes);
    CHECK(share >= 0.);
    CHECK(share <= 1.);
  }
  const Result<Buffer> none = allocate_host("none", 0);
  REQUIRE(none.ok());
  CHECK(none.value().data() == nullptr);
}

TEST_CASE("memory that is not there is refused with the numbers", "[host_memory]") {
  const int64_t available = available_bytes("");
  REQUIRE(available < std::numeric_limits<int64_t>::max());
  const Result<Buffer> buffer = allocate_host("table of layer 2", available);
  REQUIRE_FALSE(buffer.ok());
  CHECK(buffer.status().code() == Code::kResourceExhausted);
  CHECK_THAT(buffer.status().message(), Catch::Contains("table of layer 2"));
  CHECK_THAT(buffer.status().message(), Catch::Contains(std::to_string(available)));
}

TEST_CASE("limits of control groups version 2", "[system_limits]") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/pod/box\n");
  CHECK(cpu_quota_cores(root.path()) == 0);
  CHECK(available_bytes(root.path()) == std::numeric_limits<int64_t>::max());

  root.write("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n");
  CHECK(cpu_quota_cores(root.path()) == 0);
  root.write("sys/fs/cgroup/pod/cpu.max", "350000 100000\n");
  CHECK(cpu_quota_cores(root.path()) == 3);
  root.write("sys/fs/cgroup/pod/box/cpu.max", "50000 100000\n");
  CHECK(cpu_quota_cores(root.path()) == 1);

  root.write("proc/meminfo", "MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   50 kB\n");
  CHECK(available_bytes(root.path()) == 50 * 1024);
  root.write("sys/fs/cgroup/pod/memory.max", "20000\n");
  root.write("sys/fs/cgroup/pod/memory.current", "15000\n");
  CHECK(available_bytes(root.path()) == 5000);
  root.write("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 4000\n");
  CHECK(available_bytes(root.path()) == 9000);
  root.write("sys/fs/cgroup/pod/box/memory.max", "max\n");
  root.write("sys/fs/cgroup/pod/box/memory.current", "15000\n");
  CHECK(available_bytes(root.path()) == 9000);
}

TEST_CASE(
    "limits of control groups version 1, mounted as a container sees them", "[system_limits]") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "4:memory:/outer/name\n2:cpu,cpuacct:/outer/name\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(cpu_quota_cores(root.path()) == 0);
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  CHECK(cpu_quota_cores(root.path()) == 2);
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "10000\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "12000\n");
  CHECK(available_bytes(root.path()) == 0);
  root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 5000\n");
  CHECK(available_bytes(root.path()) == 3000);
}

}  // namespace
}  // namespace engram::memory

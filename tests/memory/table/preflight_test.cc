// Every finding of the preflight, from kernel files that a test writes.
#include "memory/table/preflight.h"

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memory/table/preflight_checks.h"
#include "memory/table/preflight_set.h"
#include "tests/support/fake_nodes.h"
#include "tests/support/fake_root.h"

namespace engram::memory {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

// A machine on which everything is as it should be, and two tables of 4 GiB.
struct Machine {
  FakeRoot root;
  PreflightRequest request;

  Machine() {
    meminfo(32 * kGiB);
    root.write("proc/self/cgroup", "0::/pod\n");
    root.write("proc/self/limits", "Max locked memory         unlimited  unlimited  bytes\n");
    root.write("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
    root.write("proc/buddyinfo", "Node 0, zone   Normal 1 1 1 1 1 1 1 1 1 1 4000\n");
    thp("enabled", "always [madvise] never");
    thp("defrag", "always defer [madvise] never");
    thp("shmem_enabled", "always within_size [advise] never");
    request.arena.root = root.path();
    request.arena.pin = PinPages::kTry;
    request.table_bytes = {4 * kGiB, 4 * kGiB};
    request.other_bytes = kGiB;
    request.probes.io_uring = [] { return Status(); };
    request.probes.free_bytes = [](const std::string&) { return Result<int64_t>(kGiB); };
    request.probes.reads_directly = [](const std::string&) { return Result<bool>(true); };
  }
  void meminfo(int64_t available) const {
    root.write(
        "proc/meminfo", "MemTotal: 99999999 kB\nMemAvailable: " + std::to_string(available / 1024) +
                            " kB\nCached: 2048 kB\n");
  }
  void thp(const std::string& file, const std::string& text) const {
    root.write("sys/kernel/mm/transparent_hugepage/" + file, text + "\n");
  }
  void pool(int64_t page_bytes, int64_t free) const {
    const std::string folder =
        "sys/kernel/mm/hugepages/hugepages-" + std::to_string(page_bytes / 1024) + "kB/";
    root.write(folder + "nr_hugepages", std::to_string(free) + "\n");
    root.write(folder + "free_hugepages", std::to_string(free) + "\n");
    root.write(folder + "resv_hugepages", "0\n");
  }
  Finding find(const std::string& what) const {
    for (const Finding& finding : preflight(request)) {
      if (finding.what == what) return finding;
    }
    FAIL("no finding named " << what);
    return {};
  }
};

TEST_CASE("a good machine is a go", "[preflight]") {
  const Machine machine;
  const std::vector<Finding> findings = preflight(machine.request);
  CAPTURE(preflight_text(findings));
  for (const Finding& finding : findings) {
    CAPTURE(finding.what);
    CHECK(finding.severity == Severity::kOk);
    CHECK_FALSE(finding.found.empty());
    CHECK(finding.command.empty());
  }
  CHECK(is_go(findings, true));
}

TEST_CASE("memory is counted at the peak", "[preflight]") {
  Machine machine;
  machine.meminfo(9 * kGiB);
  CHECK(machine.find("memory").severity == Severity::kOk);
  machine.meminfo(9 * kGiB - kMiB);
  const Finding machine_small = machine.find("memory");
  CHECK(machine_small.severity == Severity::kFail);
  CHECK_THAT(machine_small.needed, Catch::Contains("9.00 GiB at the peak"));
  CHECK_THAT(machine_small.command, Catch::Contains("--table-placement host:"));
  CHECK(machine_small.docker.empty());
  // Rows on the disk make it a warning, unless the rest does not fit either.
  machine.request.may_use_nvme = true;
  CHECK(machine.find("memory").severity == Severity::kWarn);
  machine.meminfo(kGiB / 2);
  CHECK(machine.find("memory").severity == Severity::kFail);
}

TEST_CASE("a control group's limit is named with its flags", "[preflight]") {
  Machine machine;
  machine.root.write("sys/fs/cgroup/pod/memory.max", std::to_string(6 * kGiB) + "\n");
  machine.root.write("sys/fs/cgroup/pod/memory.current", "0\n");
  const Finding finding = machine.find("memory");
  CHECK(finding.severity == Severity::kFail);
  CHECK_THAT(finding.found, Catch::Contains("control group"));
  CHECK(finding.docker == "--memory=10g");
  CHECK_THAT(finding.kubernetes, Catch::Contains("memory: 10Gi"));
  CHECK_FALSE(is_go({finding}, false));
}

TEST_CASE("tables in pools of huge pages need no other memory", "[preflight]") {
  Machine machine;
  machine.meminfo(2 * kGiB);
  machine.thp("enabled", "always madvise [never]");
  machine.pool(2 * kMiB, 4096);
  CHECK(machine.find("memory").severity == Severity::kOk);
  CHECK_THAT(machine.find("memory").found, Catch::Contains("8.00 GiB of the tables in pools"));
  CHECK(machine.find("huge pages").severity == Severity::kOk);
  // One page short: the second table needs other memory.
  machine.pool(2 * kMiB, 4095);
  CHECK(machine.find("memory").severity == Severity::kFail);
  CHECK(machine.find("huge pages").severity == Severity::kWarn);
  machine.pool(kGiB, 4);
  CHECK(machine.find("memory").severity == Severity::kOk);
  CHECK(machine.find("huge pages").severity == Severity::kOk);
}

TEST_CASE(
    "without huge pages there is a warning, or a failure when they are required", "[preflight]") {
  Machine machine;
  machine.thp("enabled", "always madvise [never]");
  const Finding finding = machine.find("huge pages");
  CHECK(finding.severity == Severity::kWarn);
  CHECK_THAT(finding.command, Catch::Contains("vm.nr_hugepages=4098"));
  CHECK_THAT(finding.command, Catch::Contains("transparent_hugepage/enabled"));
  CHECK_THAT(finding.kubernetes, Catch::Contains("hugepages-2Mi: 8196Mi"));
  CHECK(is_go({finding}, false));
  CHECK_FALSE(is_go({finding}, true));
  machine.request.arena.huge = HugePages::kRequire;
  CHECK(machine.find("huge pages").severity == Severity::kFail);
  machine.request.arena.huge = HugePages::kOff;
  CHECK(machine.find("huge pages").severity == Severity::kOk);
}

TEST_CASE("shared tables need shared huge pages", "[preflight]") {
  Machine machine;
  machine.thp("shmem_enabled", "always within_size advise [never]");
  CHECK(machine.find("huge pages").severity == Severity::kOk);
  machine.request.arena.shareable = true;
  const Finding finding = machine.find("huge pages");
  CHECK(finding.severity == Severity::kWarn);
  CHECK_THAT(finding.command, Catch::Contains("shmem_enabled"));
  CHECK(machine.find("/dev/shm").severity == Severity::kOk);
  CHECK_THAT(machine.find("/dev/shm").found, Catch::Contains("not used"));
}

TEST_CASE("free memory in small pieces is reported", "[preflight]") {
  Machine machine;
  machine.root.write("proc/buddyinfo", "Node 0, zone   Normal 900000 9 9 9 9 9 9 9 9 1 2\n");
  const Finding finding = machine.find("page cache");
  CHECK(finding.severity == Severity::kWarn);
  CHECK_THAT(finding.found, Catch::Contains("10.0 MiB free in blocks"));
  CHECK_THAT(finding.command, Catch::Contains("drop_caches"));
  machine.request.arena.huge = HugePages::kOff;
  CHECK(machine.find("page cache").severity == Severity::kOk);
}

TEST_CASE("the limit of locked memory matters when tables are pinned", "[preflight]") {
  Machine machine;
  machine.root.write(
      "proc/self/limits", "Max locked memory         8388608              8388608   bytes\n");
  const Finding finding = machine.find("locked memory");
  CHECK(finding.severity == Severity::kWarn);
  CHECK_THAT(finding.found, Catch::Contains("8.0 MiB"));
  CHECK(finding.docker == "--ulimit memlock=-1:-1");
  CHECK_THAT(finding.kubernetes, Catch::Contains("IPC_LOCK"));
  machine.request.arena.pin = PinPages::kRequire;
  CHECK(machine.find("locked memory").severity == Severity::kFail);
  machine.request.arena.pin = PinPages::kNo;
  CHECK(machine.find("locked memory").severity == Severity::kOk);
  // Pages of a pool are never swapped; a capability lifts the limit.
  machine.request.arena.pin = PinPages::kRequire;
  machine.pool(2 * kMiB, 4096);
  CHECK(machine.find("locked memory").severity == Severity::kOk);
  machine.pool(2 * kMiB, 0);
  machine.root.write("proc/self/status", "CapEff:\t0000000000004000\n");
  CHECK(machine.find("locked memory").severity == Severity::kOk);
}

TEST_CASE("a NUMA wish that cannot be is a failure", "[preflight]") {
  Machine machine;
  CHECK(machine.find("NUMA").found == "one node");
  write_two_nodes(machine.root, 6 << 20, 2 << 20);
  const Finding both = machine.find("NUMA");
  CHECK(both.severity == Severity::kOk);
  CHECK_THAT(both.found, Catch::Contains("2 nodes: 0 with 6.00 GiB; 1 with 2.00 GiB"));
  machine.request.arena.numa = {.kind = NumaPolicy::Kind::kBind, .node = 1};
  const Finding bound = machine.find("NUMA");
  CHECK(bound.severity == Severity::kFail);
  CHECK_THAT(bound.command, Catch::Contains("interleave"));
}

TEST_CASE("io_uring that is refused says who refuses it", "[preflight]") {
  Machine machine;
  machine.request.probes.io_uring = [] { return failed_precondition("Operation not permitted"); };
  const Finding filtered = machine.find("io_uring");
  CHECK(filtered.severity == Severity::kWarn);
  CHECK_THAT(filtered.found, Catch::Contains("Operation not permitted"));
  CHECK_THAT(filtered.docker, Catch::Contains("seccomp"));
  machine.root.write("proc/sys/kernel/io_uring_disabled", "2\n");
  const Finding disabled = machine.find("io_uring");
  CHECK(disabled.command == "sysctl -w kernel.io_uring_disabled=0");
}

TEST_CASE("the disk: direct reads and room for a conversion", "[preflight]") {
  Machine machine;
  machine.request.table_file = "/tables/layer-1.engram-table";
  machine.request.write_directory = "/out";
  machine.request.write_bytes = kGiB;
  CHECK(machine.find("direct reads").severity == Severity::kOk);
  CHECK(machine.find("disk space").severity == Severity::kOk);
  machine.request.write_bytes = kGiB + kMiB;
  const Finding full = machine.find("disk space");
  CHECK(full.severity == Severity::kFail);
  CHECK_THAT(full.command, Catch::Contains("free 1.0 MiB"));
  machine.request.probes.reads_directly = [](const std::string&) { return Result<bool>(false); };
  CHECK(machine.find("direct reads").severity == Severity::kWarn);
  machine.request.probes.reads_directly = [](const std::string& path) {
    return Result<bool>(not_found(path + ": no such file"));
  };
  CHECK(machine.find("direct reads").severity == Severity::kFail);
}

TEST_CASE("a machine that shows nothing gives findings all the same", "[preflight]") {
  const FakeRoot empty;
  Machine machine;
  machine.request.arena.root = empty.path();
  const std::vector<Finding> findings = preflight(machine.request);
  CHECK(findings.size() >= 6);
  for (const Finding& finding : findings) CHECK_FALSE(finding.found.empty());
}

TEST_CASE("findings as text hold what was found and every fix", "[preflight]") {
  const std::vector<Finding> findings = {
      {.what = "memory", .severity = Severity::kOk, .found = "much"},
      {.what = "locked memory",
       .severity = Severity::kFail,
       .found = "little",
       .needed = "more",
       .command = "ulimit -l unlimited",
       .docker = "--ulimit memlock=-1:-1",
       .kubernetes = "a line"}};
  const std::string text = preflight_text(findings);
  CHECK_THAT(text, Catch::Contains("ok    memory") && Catch::Contains("FAIL  locked memory"));
  for (const char* part : {"little", "more", "ulimit -l", "--ulimit", "a line"}) {
    CHECK_THAT(text, Catch::Contains(part));
    CHECK_THAT(finding_line(findings[1]), Catch::Contains(part));
  }
}

class SourceOfBytes : public TableSource {
 public:
  explicit SourceOfBytes(int64_t bytes) : bytes_(bytes) {}
  const TableGeometry& geometry() const override { return geometry_; }
  std::string version() const override { return "1"; }
  std::string path() const override { return "none"; }
  int64_t image_bytes() const override { return bytes_; }
  RowPlace place(const void*) const override { return {}; }
  Status load(void*, const std::function<void(int64_t)>&) const override { return {}; }
  Status read_row(int64_t, uint8_t*, uint8_t*) const override { return {}; }
  std::string row_text(int64_t) const override { return ""; }

 private:
  TableGeometry geometry_;
  int64_t bytes_;
};

TEST_CASE("the questions follow from a table set's options", "[preflight]") {
  TableRequest set;
  set.wanted.resize(2);
  set.sources = {
      std::make_shared<SourceOfBytes>(3 * kGiB), std::make_shared<SourceOfBytes>(2 * kGiB)};
  set.options.arena.other_bytes = 5;
  set.options.cache_bytes = 7;
  CHECK(preflight_request(set).table_bytes == std::vector<int64_t>{3 * kGiB, 2 * kGiB});
  CHECK(preflight_request(set).other_bytes == 12);
  CHECK_FALSE(preflight_request(set).may_use_nvme);
  set.options.placement = "host:4GiB,nvme";
  CHECK(preflight_request(set).table_bytes == std::vector<int64_t>{3 * kGiB, kGiB});
  CHECK(preflight_request(set).may_use_nvme);
  set.options.placement = "nvme";
  CHECK(preflight_request(set).table_bytes == std::vector<int64_t>{0, 0});
  set.options.socket = "/run/tables.sock";
  CHECK(preflight_request(set).table_bytes.empty());
}

// The real probes on this machine: whatever they say, they must not crash and must name the file.
TEST_CASE("the real probes answer", "[preflight]") {
  const PreflightProbes probes = real_probes();
  const Status ring = probes.io_uring();
  if (!ring.ok()) WARN("io_uring is refused here: " << ring.message());
  CHECK(probes.free_bytes("/tmp").ok());
  CHECK_THAT(
      probes.free_bytes("/no/such/folder").status().message(), Catch::Contains("/no/such/folder"));
  CHECK_THAT(
      probes.reads_directly("/no/such/file").status().message(), Catch::Contains("/no/such/file"));
}

}  // namespace
}  // namespace engram::memory

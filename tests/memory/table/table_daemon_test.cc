// Daemon and clients as processes of their own, which are killed.
#include "memory/table/table_daemon.h"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "memory/device/system_limits.h"
#include "memory/table/synthetic_rows.h"
#include "tests/support/bytes.h"
#include "tests/support/shared_bytes.h"
#include "tests/support/synthetic_row.h"
#include "tests/support/table_daemon.h"
#include "tests/support/table_files.h"
#include "tests/support/temp_directory.h"

namespace engram::memory {
namespace {

using tests::TableDaemon;

TableGeometry geometry(int layer, int64_t rows) {
  TableGeometry g = tests::small_geometry(RowCodec::kF8Ue8m0, 256, rows, 8);
  g.layer = layer;
  return g;
}

std::shared_ptr<const TableFile> write_table(const std::string& path, const TableGeometry& g) {
  return tests::write_synthetic_table(path, g, RowLayout::kSplit, 1 << 18);
}

TableDaemonOptions options(const tests::TempDirectory& directory) {
  TableDaemonOptions o;
  o.tables = {directory.path()};
  o.socket = directory.file("socket");
  return o;
}

bool rows_right(const AttachedTable& table, uint64_t seed, int count) {
  return tests::rows_right(table.header().geometry, table.place(), seed, count);
}

AttachOptions patient() {
  AttachOptions o;
  o.wait_ms = 60000;
  return o;
}

// A process that attaches a table and answers each byte with another: '1' when all rows it looked
// at were right.
class ClientProcess {
 public:
  ClientProcess(const std::string& socket, const TableGeometry& g) {
    int to[2];
    int from[2];
    signal(SIGPIPE, SIG_IGN);  // a client that could not attach is a failed write
    REQUIRE(pipe(to) == 0);
    REQUIRE(pipe(from) == 0);
    process_ = fork();
    REQUIRE(process_ >= 0);
    if (process_ == 0) {
      close(to[1]);
      close(from[0]);
      _exit(serve(socket, g, to[0], from[1]));
    }
    close(to[0]);
    close(from[1]);
    to_ = to[1];
    from_ = from[0];
  }
  // By force: processes made later hold the other end of its input too.
  ~ClientProcess() { kill(); }
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;

  pid_t process() const { return process_; }
  bool right() {
    char answer = 0;
    return write(to_, "?", 1) == 1 && read(from_, &answer, 1) == 1 && answer == '1';
  }
  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    close(to_);
    close(from_);
    waitpid(process_, nullptr, 0);
    process_ = -1;
  }

 private:
  static int serve(const std::string& socket, const TableGeometry& g, int in, int out) {
    const auto table = attach_table(socket, {"", g, {}}, patient());
    if (!table.ok()) {
      std::fprintf(stderr, "client: %s\n", table.status().to_string().c_str());
      return 1;
    }
    char question = 0;
    for (uint32_t seed = 1; read(in, &question, 1) == 1; ++seed) {
      const char answer = rows_right(*table.value(), seed, 20000) ? '1' : '0';
      if (write(out, &answer, 1) != 1) return 1;
    }
    return 0;
  }
  pid_t process_ = -1;
  int to_ = -1;
  int from_ = -1;
};

TEST_CASE("a million random rows through a daemon are the file's", "[table_daemon]") {
  const tests::TempDirectory directory;
  const TableGeometry g = geometry(1, 50021);
  write_table(directory.file("one"), g);
  write_table(directory.file("two"), geometry(2, 1009));
  directory.write("notes.txt", "no table");
  TableDaemon daemon(options(directory));
  REQUIRE(daemon.answers());
  const auto table = attach_table(daemon.socket(), {"", g, {}}, patient());
  REQUIRE(table.ok());
  CHECK(rows_right(*table.value(), 5, 1000000));
  std::printf("%s\n", table.value()->text().c_str());
  CHECK(attach_table(daemon.socket(), {"", geometry(2, 1009), {}}, patient()).ok());
  CHECK(list_shared_tables(daemon.socket()).value().size() == 2);
  CHECK(daemon.stop() == 0);
  CHECK_FALSE(std::filesystem::exists(daemon.socket()));
  CHECK(rows_right(*table.value(), 6, 1000));  // the mapping outlives the daemon
}

TEST_CASE("whoever is killed, the others go on", "[table_daemon]") {
  const tests::TempDirectory directory;
  const TableGeometry g = geometry(1, 50021);
  write_table(directory.file("one"), g);
  TableDaemon daemon(options(directory));
  REQUIRE(daemon.answers());
  std::vector<std::unique_ptr<ClientProcess>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<ClientProcess>(daemon.socket(), g));
  }
  for (const auto& client : clients) CHECK(client->right());
  clients[1]->kill();
  clients[3]->kill();
  CHECK(clients[0]->right());
  CHECK(clients[2]->right());
  CHECK(attach_table(daemon.socket(), {"", g, {}}, patient()).ok());

  CHECK(daemon.kill() == -SIGKILL);
  CHECK(clients[0]->right());
  CHECK(clients[2]->right());
  CHECK(
      attach_table(daemon.socket(), {"", g, {}}, patient()).status().code() == Code::kUnavailable);

  // The dead daemon's socket is in the way of none.
  CHECK(std::filesystem::exists(daemon.socket()));
  TableDaemon next(options(directory));
  REQUIRE(next.answers());
  const auto table = attach_table(next.socket(), {"", g, {}}, patient());
  REQUIRE(table.ok());
  CHECK(rows_right(*table.value(), 9, 10000));
  CHECK(clients[0]->right());
}

TEST_CASE("a daemon killed at any step harms no client", "[table_daemon]") {
  const tests::TempDirectory directory;
  const TableGeometry g = geometry(1, 50021);
  write_table(directory.file("one"), g);
  constexpr uint32_t kSeed = 3;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  int attached = 0;
  for (int round = 0; round < 25; ++round) {
    const int microseconds = static_cast<int>(random() % 150000);
    CAPTURE(round, microseconds);
    TableDaemon daemon(options(directory));
    const pid_t killer = fork();
    REQUIRE(killer >= 0);
    if (killer == 0) {
      usleep(static_cast<useconds_t>(microseconds));
      ::kill(daemon.process(), SIGKILL);
      _exit(0);
    }
    // While it lives and after: every answer is the table or an error that says so.
    for (bool gone = false; !gone;) {
      gone = waitpid(killer, nullptr, WNOHANG) == killer;
      const auto table = attach_table(daemon.socket(), {"", g, {}}, AttachOptions());
      if (table.ok()) {
        ++attached;
        REQUIRE(rows_right(*table.value(), random(), 500));
      } else {
        REQUIRE(table.status().code() == Code::kUnavailable);
        usleep(1000);
      }
    }
    daemon.kill();
  }
  std::printf("attached %d times between kills\n", attached);
}

TEST_CASE("four processes and the daemon hold one copy", "[table_daemon]") {
  const tests::TempDirectory directory;
  const TableGeometry g = geometry(1, 200003);
  const int64_t bytes = write_table(directory.file("one"), g)->header().data_bytes;
  for (const HugePages huge : {HugePages::kAuto, HugePages::kOff}) {
    TableDaemonOptions o = options(directory);
    o.arena.huge = huge;
    TableDaemon daemon(o);
    REQUIRE(daemon.answers());
    std::vector<std::unique_ptr<ClientProcess>> clients;
    std::vector<pid_t> processes{daemon.process()};
    for (int i = 0; i < 4; ++i) {
      clients.push_back(std::make_unique<ClientProcess>(daemon.socket(), g));
      CHECK(clients.back()->right());
      processes.push_back(clients.back()->process());
    }
    int64_t total = 0;
    for (const pid_t process : processes) {
      const tests::SharedBytes shared = tests::shared_table_bytes(process);
      CHECK(shared.pss + shared.hugetlb > 0);
      total += shared.pss + shared.hugetlb / static_cast<int64_t>(processes.size());
    }
    const double copies = static_cast<double>(total) / static_cast<double>(bytes);
    std::printf(
        "5 processes, %s: %.3f copies of %.1f MiB\n",
        page_kind_name(list_shared_tables(daemon.socket()).value()[0].entry.pages), copies,
        static_cast<double>(bytes) / (1 << 20));
    // The last page may be a huge one.
    CHECK(copies > 0.99);
    CHECK(copies < 1.05);
  }
}

TEST_CASE("what a daemon cannot start with is said", "[table_daemon]") {
  const tests::TempDirectory directory;
  const auto run = [](TableDaemonOptions o) {
    const int stop = eventfd(1, EFD_CLOEXEC);
    o.log = [](const std::string&) {};
    const Status status = run_table_daemon(o, nullptr, stop);
    close(stop);
    return status;
  };
  CHECK(run(options(directory)).code() == Code::kNotFound);
  TableDaemonOptions o = options(directory);
  o.tables = {directory.file("none")};
  CHECK(run(o).code() == Code::kNotFound);
  write_table(directory.file("one"), geometry(1, 1009));
  std::filesystem::copy_file(directory.file("one"), directory.file("same"));
  const Status twice = run(options(directory));
  CHECK(twice.code() == Code::kInvalidArgument);
  CHECK_THAT(twice.message(), Catch::Contains("same table"));
  std::filesystem::remove(directory.file("same"));
  o = options(directory);
  o.arena.other_bytes = available_bytes("");
  CHECK(run(o).code() == Code::kResourceExhausted);
  CHECK(run(options(directory)).ok());  // told to stop at once
  // A corrupt table is not served.
  tests::flip_bit(directory.file("one"), 4096 + 1000);
  TableDaemon daemon(options(directory));
  CHECK(daemon.wait() == 1);
}

}  // namespace
}  // namespace engram::memory

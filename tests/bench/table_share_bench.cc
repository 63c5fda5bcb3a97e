// Sharing a table: what four server processes and the daemon that holds the table pay for it
// together, how long attaching takes, and who survives whose death. The table is filled with
// made-up rows in memory; its size is 8 GiB, or 64 MiB with --smoke. --filter huge or small
// runs one kind of pages; --threads fill it; every process attaches once, so there are no rounds.
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "memory/device/device_cpu.h"
#include "memory/table/share_server.h"
#include "memory/table/synthetic_rows.h"
#include "memory/table/table_share.h"
#include "tests/bench/bench.h"
#include "tests/support/shared_bytes.h"
#include "tests/support/synthetic_row.h"
#include "tests/support/temp_directory.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kServers = 4;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

[[noreturn]] void give_up(const memory::Status& status) {
  std::fprintf(stderr, "table_share_bench: %s\n", status.to_string().c_str());
  std::_Exit(1);
}

// One layer of 256-wide fp8 rows with scales.
memory::TableGeometry geometry(int64_t bytes) {
  constexpr int kColumns = 16;
  memory::TableGeometry g;
  g.layer = 1;
  g.orders = {2, 3};
  g.heads = kColumns / 2;
  g.multipliers = {3, 5, 7};
  g.row_width = 256;
  g.codec = memory::RowCodec::kF8Ue8m0;
  g.rows = bytes / (g.value_bytes() + g.scale_bytes());
  for (int64_t i = 0; i < kColumns; ++i) {
    g.moduli.push_back(g.rows / kColumns);
    g.offsets.push_back(i * (g.rows / kColumns));
  }
  return g;
}

memory::TableHeader plan(int64_t bytes) {
  const memory::Result<memory::TableHeader> header =
      memory::plan_table(geometry(bytes), memory::RowLayout::kSplit, 16 << 20, {});
  if (!header.ok()) give_up(header.status());
  const memory::Result<std::string> encoded = memory::encode_table_header(header.value());
  if (!encoded.ok()) give_up(encoded.status());
  // Decoding gives it its id.
  const memory::Result<memory::TableHeader> named = memory::decode_table_header(
      {reinterpret_cast<const uint8_t*>(encoded.value().data()), encoded.value().size()}, "bench");
  if (!named.ok()) give_up(named.status());
  return named.value();
}

void fill(const memory::TableHeader& header, uint8_t* data, int threads) {
  memory::CpuWorkers workers(threads);
  constexpr int64_t kRows = 1 << 16;
  const int64_t rows = header.geometry.rows;
  workers.run((rows + kRows - 1) / kRows, [&](int64_t part) {
    const int64_t first = part * kRows;
    const memory::RowPlace place = memory::row_place(header, data);
    memory::make_synthetic_rows(
        header.geometry, first, std::min(kRows, rows - first),
        const_cast<uint8_t*>(place.values) + first * place.value_stride, place.value_stride,
        const_cast<uint8_t*>(place.scales) + first * place.scale_stride, place.scale_stride);
  });
}

// What the daemon tells when its table is ready.
struct Ready {
  double touch_seconds = 0.;
  double fill_seconds = 0.;
  double huge_share = 0.;
  char pages[32] = {};
};

[[noreturn]] void run_daemon(
    const std::string& socket,
    const memory::TableHeader& header,
    memory::HugePages huge,
    int threads,
    int out) {
  memory::ArenaOptions options;
  options.shareable = true;
  options.huge = huge;
  options.threads = threads;
  memory::Result<memory::TableMemory> pages =
      memory::allocate_table_memory("table", header.data_bytes, options, nullptr);
  if (!pages.ok()) give_up(pages.status());
  const memory::ArenaReport report = pages.value().report();
  std::printf("%s\n", report.text().c_str());
  std::fflush(stdout);
  Ready ready{report.touch_seconds, 0., report.huge_share, {}};
  std::snprintf(
      ready.pages, sizeof ready.pages, "%s", memory::page_kind_name(pages.value().copy_pages(0)));
  const Clock::time_point begin = Clock::now();
  fill(header, pages.value().data(), threads);
  ready.fill_seconds = seconds_since(begin);
  auto server = memory::ShareServer::listen(socket, 0600);
  if (!server.ok()) give_up(server.status());
  server.value()->set_ready(
      server.value()->add(
          "memory", memory::encode_table_header(header).value(), header.id, header.data_bytes),
      &pages.value());
  if (write(out, &ready, sizeof ready) != sizeof ready) std::_Exit(1);
  server.value()->run(eventfd(0, EFD_CLOEXEC));
  std::_Exit(0);
}

struct Answer {
  double seconds = 0.;
  bool right = false;
};

// Attaches, answers, and then once for every byte it is sent.
[[noreturn]] void run_server(
    const std::string& socket, const memory::TableHeader& header, int rows, int in, int out) {
  const Clock::time_point begin = Clock::now();
  const auto table =
      memory::attach_table(socket, {header.id, header.geometry, {}}, memory::AttachOptions());
  Answer answer{seconds_since(begin), false};
  if (!table.ok()) give_up(table.status());
  char question = 0;
  uint64_t seed = static_cast<uint64_t>(getpid());
  do {
    answer.right = tests::rows_right(header.geometry, table.value()->place(), ++seed, rows);
    if (write(out, &answer, sizeof answer) != sizeof answer) std::_Exit(1);
  } while (read(in, &question, 1) == 1);
  std::_Exit(0);
}

struct Process {
  pid_t id = -1;
  int to = -1;
  int from = -1;

  Answer answer() const {
    Answer a;
    if (read(from, &a, sizeof a) != sizeof a) a.right = false;
    return a;
  }
  Answer ask() const {
    if (write(to, "?", 1) != 1) return {};
    return answer();
  }
  void kill_it() const {
    ::kill(id, SIGKILL);
    waitpid(id, nullptr, 0);
  }
};

template <typename Run>
Process start(const Run& run) {
  int to[2];
  int from[2];
  if (pipe(to) != 0 || pipe(from) != 0) std::_Exit(1);
  std::fflush(stdout);
  const pid_t id = fork();
  if (id == 0) {
    close(to[1]);
    close(from[0]);
    run(to[0], from[1]);
  }
  close(to[0]);
  close(from[1]);
  return {id, to[1], from[0]};
}

// One arm; whether all rows were right wherever somebody was killed.
bool measure(const memory::TableHeader& header, memory::HugePages huge, const Options& options) {
  const int rows = options.smoke ? 10000 : 1000000;
  const int threads = options.threads > 0 ? options.threads : memory::usable_cores();
  const tests::TempDirectory directory;
  const std::string socket = directory.file("socket");
  const Process daemon =
      start([&](int, int out) { run_daemon(socket, header, huge, threads, out); });
  Ready ready;
  if (read(daemon.from, &ready, sizeof ready) != sizeof ready) {
    waitpid(daemon.id, nullptr, 0);
    return false;
  }
  std::vector<Process> servers;
  bool right = true;
  double slowest = 0.;
  for (int i = 0; i < kServers; ++i) {
    servers.push_back(start([&](int in, int out) { run_server(socket, header, rows, in, out); }));
    const Answer answer = servers.back().answer();
    right = right && answer.right;
    slowest = std::max(slowest, answer.seconds);
    std::printf("  server %d: attached in %.1f ms\n", i, 1e3 * answer.seconds);
  }
  int64_t total = 0;
  std::vector<pid_t> all{daemon.id};
  for (const Process& server : servers) all.push_back(server.id);
  for (const pid_t id : all) {
    const tests::SharedBytes shared = tests::shared_table_bytes(id);
    total += shared.pss + shared.hugetlb / static_cast<int64_t>(all.size());
  }
  const double copies = static_cast<double>(total) / static_cast<double>(header.data_bytes);

  servers[1].kill_it();
  for (const int i : {0, 2, 3}) right = servers[static_cast<size_t>(i)].ask().right && right;
  daemon.kill_it();
  for (const int i : {0, 2, 3}) right = servers[static_cast<size_t>(i)].ask().right && right;
  for (const int i : {0, 2, 3}) servers[static_cast<size_t>(i)].kill_it();
  std::printf(
      "%-16s %6.2f GiB  %3.0f %% huge  daemon + %d servers hold %.3f copies  attach %.1f ms, "
      "touching alone %.0f ms: %.0f times as long  rows %s after kill -9 of a server and the "
      "daemon\n",
      ready.pages, static_cast<double>(header.data_bytes) / (1 << 30), 100. * ready.huge_share,
      kServers, copies, 1e3 * slowest, 1e3 * ready.touch_seconds, ready.touch_seconds / slowest,
      right ? "right" : "WRONG");
  return right;
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  const int64_t bytes = options.smoke ? int64_t{64} << 20 : int64_t{8} << 30;
  const memory::TableHeader header = plan(bytes);
  bool right = true;
  const struct {
    const char* name;
    memory::HugePages huge;
  } arms[] = {
      {"huge pages", memory::HugePages::kAuto},
      {"small pages", memory::HugePages::kOff},
  };
  for (const auto& arm : arms) {
    if (std::string(arm.name).find(options.filter) == std::string::npos) continue;
    right = measure(header, arm.huge, options) && right;
  }
  return right ? 0 : 1;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

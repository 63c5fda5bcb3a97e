// engram table: a daemon that holds tables for any number of servers, and a look at one.
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/table/table_daemon.h"
#include "memory/table/table_share.h"
#include "tools/command.h"

namespace engram::tools {
namespace {

constexpr const char* kDefaultSocket = "/run/engram-tables.sock";

struct ServeArguments {
  std::vector<std::string> tables;
  std::string socket = kDefaultSocket;
  std::string socket_mode = "600";
  std::string numa_policy = "auto";
  bool require_huge_pages = false;
  bool no_huge_pages = false;
  std::string lock = "try";
  int threads = 0;
};

int complain(const memory::Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return status.code() == memory::Code::kUnavailable ? kUnreachable : kFailed;
}

// SIGINT and SIGTERM as a descriptor that becomes readable. Call before threads start.
int stop_descriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

bool parse_mode(const std::string& text, unsigned* mode) {
  if (text.empty() || text.size() > 4) return false;
  *mode = 0;
  for (const char c : text) {
    if (c < '0' || c > '7') return false;
    *mode = *mode * 8 + static_cast<unsigned>(c - '0');
  }
  return *mode <= 0777;
}

int serve(const ServeArguments& a) {
  memory::TableDaemonOptions options;
  options.tables = a.tables;
  options.socket = a.socket;
  if (!parse_mode(a.socket_mode, &options.socket_mode)) {
    return report_usage("--socket-mode: expected octal digits such as 660, got " + a.socket_mode);
  }
  const memory::Result<memory::NumaPolicy> numa = memory::parse_numa_policy(a.numa_policy);
  if (!numa.ok()) return report_usage("--numa-policy: " + numa.status().message());
  options.arena.numa = numa.value();
  if (a.require_huge_pages) options.arena.huge = memory::HugePages::kRequire;
  if (a.no_huge_pages) options.arena.huge = memory::HugePages::kOff;
  options.arena.pin = a.lock == "no"        ? memory::PinPages::kNo
                      : a.lock == "require" ? memory::PinPages::kRequire
                                            : memory::PinPages::kTry;
  options.arena.threads = a.threads;
  options.log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  const int stop = stop_descriptor();
  const std::unique_ptr<memory::Device> device = memory::make_cpu_device(1);
  const memory::Status status = memory::run_table_daemon(options, device.get(), stop);
  close(stop);
  if (!status.ok()) return complain(status);
  options.log("stopped; attached servers keep their tables");
  return kDone;
}

nlohmann::ordered_json table_json(const memory::SharedTable& table) {
  const memory::ShareEntry& e = table.entry;
  nlohmann::ordered_json object = {
      {"id", table.header.id},
      {"layer", table.header.geometry.layer},
      {"rows", table.header.geometry.rows},
      {"codec", memory::row_codec_name(table.header.geometry.codec)},
      {"bytes", table.header.data_bytes},
      {"state", memory::share_state_name(e.state)},
      {"bytes_done", e.bytes_done},
      {"pages", memory::page_kind_name(e.pages)},
      {"huge_percent", e.huge_percent},
      {"attached", e.attached},
      {"path", e.path}};
  if (!e.error.empty()) object["error"] = e.error;
  return object;
}

void print_table(const memory::SharedTable& table) {
  const memory::ShareEntry& e = table.entry;
  std::string state = memory::share_state_name(e.state);
  if (e.state == memory::ShareState::kLoading && e.bytes_total > 0) {
    state += " " + std::to_string(100 * e.bytes_done / e.bytes_total) + " %";
  }
  std::printf(
      "%s  layer %d  %lld rows  %s  %s  %s", table.header.id.c_str(), table.header.geometry.layer,
      static_cast<long long>(table.header.geometry.rows),
      memory::row_codec_name(table.header.geometry.codec),
      memory::format_bytes(table.header.data_bytes).c_str(), state.c_str());
  if (e.state == memory::ShareState::kReady) {
    std::printf(
        ", %s pages, %d %% huge, attached %u times", memory::page_kind_name(e.pages),
        e.huge_percent, e.attached);
  }
  std::printf("  %s\n", e.path.c_str());
  if (!e.error.empty()) std::printf("  %s\n", e.error.c_str());
}

int list(const std::string& socket, bool json) {
  const memory::Result<std::vector<memory::SharedTable>> tables =
      memory::list_shared_tables(socket);
  if (!tables.ok()) return complain(tables.status());
  if (json) {
    nlohmann::ordered_json array = nlohmann::ordered_json::array();
    for (const memory::SharedTable& table : tables.value()) array.push_back(table_json(table));
    std::printf(
        "%s\n", array.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return kDone;
  }
  for (const memory::SharedTable& table : tables.value()) print_table(table);
  return kDone;
}

void add_serve(CLI::App& group, Invocation* invocation) {
  CLI::App* command = group.add_subcommand(
      "serve",
      "Hold table files in memory and pass their pages to servers on this machine. Runs until\n"
      "SIGTERM; servers that have attached keep their tables even when it is killed");
  auto a = std::make_shared<ServeArguments>();
  command->add_option("--tables", a->tables, "Table files, or directories of them")->required();
  command->add_option("--socket", a->socket, "Unix socket to listen on")->capture_default_str();
  command->add_option("--socket-mode", a->socket_mode, "Who may attach: permissions, octal")
      ->capture_default_str();
  CLI::Option* require = command->add_flag(
      "--require-huge-pages", a->require_huge_pages,
      "Fail, with the command that helps, when less than 90 % is in huge pages");
  command->add_flag("--no-huge-pages", a->no_huge_pages, "Small pages, to compare")
      ->excludes(require);
  command
      ->add_option("--numa-policy", a->numa_policy, "auto, none, bind:N, interleave, or replicate")
      ->capture_default_str();
  command->add_option("--lock", a->lock, "Lock the pages in memory: no, try, or require")
      ->check(CLI::IsMember({"no", "try", "require"}))
      ->capture_default_str();
  command->add_option("--threads", a->threads, "Threads that touch pages; 0: one per core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->callback([a, invocation] { invocation->run = [a] { return serve(*a); }; });
}

void add_list(CLI::App& group, Invocation* invocation) {
  struct ListArguments {
    std::string socket = kDefaultSocket;
    bool json = false;
  };
  CLI::App* command = group.add_subcommand("list", "What a table daemon holds, and for how many");
  auto a = std::make_shared<ListArguments>();
  command->add_option("--socket", a->socket, "Unix socket of the daemon")->capture_default_str();
  command->add_flag("--json", a->json, "One JSON array");
  command->callback(
      [a, invocation] { invocation->run = [a] { return list(a->socket, a->json); }; });
}

}  // namespace

void add_table_command(CLI::App& app, Invocation* invocation) {
  CLI::App* group = app.add_subcommand("table", "Tables shared by the servers of one machine");
  group->require_subcommand(1);
  add_serve(*group, invocation);
  add_list(*group, invocation);
}

}  // namespace engram::tools

// engram tables: where a server's n-gram tables are, what memory they got, what was read.
#include <engram/v1/admin.grpc.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

#include "memory/base/byte_text.h"
#include "tools/command.h"

namespace engram::tools {
namespace {

constexpr double kPercent = 100;

struct TablesArguments {
  std::string server;
  std::string swap;
  bool json = false;
};

std::string size_text(uint64_t bytes) {
  return memory::format_bytes(static_cast<int64_t>(bytes));
}

// 1234567 as "1,234,567".
std::string count_text(uint64_t value) {
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

double share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : kPercent * static_cast<double>(part) / static_cast<double>(whole);
}

void print_memory(const v1::TableMemory& memory) {
  std::string nodes;
  for (const int node : memory.numa_nodes()) {
    nodes += (nodes.empty() ? ", NUMA node " : ",") + std::to_string(node);
  }
  std::printf(
      "  memory   %.1f %% huge pages%s, %s, %s\n", kPercent * memory.huge_page_share(),
      nodes.c_str(), memory.shared() ? "shared" : "private",
      memory.pinned_bytes() == 0 ? "not pinned"
                                 : (size_text(memory.pinned_bytes()) + " pinned").c_str());
  if (memory.pinned_bytes() > 0) std::printf("  pinned   in %.2f s\n", memory.pin_seconds());
  for (const std::string& finding : memory.findings()) {
    std::printf("  note     %s\n", finding.c_str());
  }
}

void print_load(const v1::TableLoad& load) {
  std::printf("  loaded   %s", size_text(load.bytes_done()).c_str());
  if (load.bytes_done() < load.bytes_total()) {
    std::printf(
        " of %s (%.0f %%)", size_text(load.bytes_total()).c_str(),
        share(load.bytes_done(), load.bytes_total()));
  }
  if (load.seconds() > 0) std::printf(" in %.2f s", load.seconds());
  if (load.bytes_per_second() > 0) std::printf(", %.2f GB/s", load.bytes_per_second() * 1e-9);
  std::printf("%s%s\n", load.has_method() ? ", " : "", load.method().c_str());
}

void print_traffic(const v1::TableTraffic& traffic) {
  std::printf(
      "  read     %s rows, %s\n", count_text(traffic.rows_read()).c_str(),
      size_text(traffic.bytes_read()).c_str());
  const uint64_t looked_up = traffic.cache_hits() + traffic.cache_misses();
  if (looked_up > 0) {
    std::printf(
        "  cache    %.1f %% of %s rows found\n", share(traffic.cache_hits(), looked_up),
        count_text(looked_up).c_str());
  }
  if (traffic.file_reads() > 0) {
    std::printf(
        "  file     %s reads, %s\n", count_text(traffic.file_reads()).c_str(),
        size_text(traffic.file_bytes()).c_str());
  }
  if (traffic.failed_rows() > 0) {
    std::printf("  FAILED   %s rows\n", count_text(traffic.failed_rows()).c_str());
  }
}

void print_table(const v1::Table& table) {
  std::printf("layer %-4u version %s\n", table.layer(), table.version().c_str());
  std::printf("  from     %s\n", table.source().c_str());
  std::printf(
      "  rows     %s of %llu %s values in %llu bytes; a token needs %llu; %s in all\n",
      count_text(table.rows()).c_str(), static_cast<unsigned long long>(table.row_width()),
      table.codec().c_str(), static_cast<unsigned long long>(table.row_bytes()),
      static_cast<unsigned long long>(table.columns()), size_text(table.bytes()).c_str());
  for (const v1::TableTier& tier : table.tiers()) {
    std::printf(
        "  in %-5s %s rows, %s\n", tier.name().c_str(), count_text(tier.rows()).c_str(),
        size_text(tier.bytes()).c_str());
  }
  if (table.has_gather()) std::printf("  gather   %s\n", table.gather().c_str());
  if (table.has_memory()) print_memory(table.memory());
  if (table.has_load()) print_load(table.load());
  print_traffic(table.traffic());
}

int print_json(const google::protobuf::Message& response) {
  std::string text;
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  if (!google::protobuf::util::MessageToJsonString(response, &text, options).ok()) return kFailed;
  std::printf("%s\n", text.c_str());
  return kDone;
}

// Returns when it is done, however long loading takes.
int swap_tables(v1::Admin::Stub* stub, const TablesArguments& a) {
  v1::SwapTableRequest request;
  request.set_directory(a.swap);
  v1::SwapTableResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub->SwapTable(&context, request, &response);
  if (!status.ok()) return report_failure(status, a.server);
  if (a.json) return print_json(response);
  std::printf(
      "version %s\n  follows  %s\n  loaded   in %.2f s, switched in %.3f ms\n",
      response.new_version().c_str(), response.old_version().c_str(), response.load_seconds(),
      response.pause_seconds() * 1e3);
  return kDone;
}

int tables(const TablesArguments& a) {
  const auto stub = v1::Admin::NewStub(connect(a.server));
  if (!a.swap.empty()) return swap_tables(stub.get(), a);
  v1::GetTablesResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  const grpc::Status status = stub->GetTables(&context, v1::GetTablesRequest(), &response);
  if (!status.ok()) return report_failure(status, a.server);
  if (a.json) return print_json(response);
  for (const v1::Table& table : response.tables()) print_table(table);
  if (response.tables_size() == 0) std::puts("the model has no n-gram tables");
  return kDone;
}

}  // namespace

void add_tables_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand("tables", "A server's n-gram tables and their memory");
  auto a = std::make_shared<TablesArguments>();
  add_server_option(*command, &a->server);
  command->add_flag("--json", a->json, "One object");
  command->add_option(
      "--swap", a->swap, "Switch the running server to the table files in this directory of its");
  command->callback([a, invocation] { invocation->run = [a] { return tables(*a); }; });
}

}  // namespace engram::tools

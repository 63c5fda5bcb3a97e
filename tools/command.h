// What the commands of `engram` share: how they are added, how they call a server, how they end.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}
namespace grpc {
class ChannelInterface;
class Status;
}  // namespace grpc

namespace engram::tools {

enum ExitCode {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kUnreachable = 3,
  kInterrupted = 130,
};

// The command that the command line chose.
struct Invocation {
  std::function<int()> run;
};

void add_bench_command(CLI::App& app, Invocation* invocation);
void add_complete_command(CLI::App& app, Invocation* invocation);
void add_convert_command(CLI::App& app, Invocation* invocation);
void add_hash_command(CLI::App& app, Invocation* invocation);
void add_inspect_command(CLI::App& app, Invocation* invocation);
void add_preflight_command(CLI::App& app, Invocation* invocation);
void add_stats_command(CLI::App& app, Invocation* invocation);
void add_table_command(CLI::App& app, Invocation* invocation);
void add_tables_command(CLI::App& app, Invocation* invocation);
void add_tokenize_command(CLI::App& app, Invocation* invocation);

// --server HOST:PORT, from ENGRAM_SERVER too.
void add_server_option(CLI::App& command, std::string* server);

// "5,7,11" to ids; false when it is not a list of numbers below 2^32.
bool parse_ids(const std::string& text, std::vector<uint32_t>* ids);
// The program and its arguments, quoted for a shell where that is needed.
std::string command_line();
// The whole of standard input.
std::string read_input();

std::shared_ptr<grpc::ChannelInterface> connect(const std::string& server);
// Prints why the call failed; kUnreachable when no server answered, kFailed otherwise.
int report_failure(const grpc::Status& status, const std::string& server);
int report_usage(const std::string& message);

}  // namespace engram::tools

// engram stats: what a server serves and how it fares.
#include <engram/v1/admin.grpc.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>

#include "tools/command.h"

namespace engram::tools {
namespace {

struct StatsArguments {
  std::string server;
  bool json = false;
  double watch = 0;
};

const char* phase_name(v1::Phase phase) {
  switch (phase) {
    case v1::PHASE_LOADING:
      return "loading";
    case v1::PHASE_READY:
      return "ready";
    case v1::PHASE_DRAINING:
      return "draining";
    default:
      return "unknown";
  }
}

unsigned long long wide(uint64_t value) {
  return value;
}

void print_engine(const v1::EngineDescription& engine) {
  std::printf(
      "model       %s (%s) on %s\n", engine.model_path().c_str(), engine.architecture().c_str(),
      engine.device().c_str());
  std::string names;
  for (const std::string& name : engine.served_names()) names += (names.empty() ? "" : ", ") + name;
  std::printf("names       %s\n", names.c_str());
  std::printf(
      "limits      %llu tokens per request, %llu sequences and %llu tokens per step\n",
      wide(engine.max_model_len()), wide(engine.max_num_seqs()),
      wide(engine.max_num_batched_tokens()));
  if (engine.has_table_placement()) {
    std::printf("tables      %s\n", engine.table_placement().c_str());
  }
}

void print_numbers(const v1::EngineNumbers& n) {
  std::printf("requests    %llu running, %llu waiting\n", wide(n.running()), wide(n.waiting()));
  const double total = static_cast<double>(n.kv_pages_total());
  const double used = total - static_cast<double>(n.kv_pages_free());
  std::printf(
      "cache       %.0f of %.0f pages in use (%.1f %%), %llu preemptions\n", used, total,
      total > 0 ? 100 * used / total : 0, wide(n.preemptions()));
  std::printf(
      "tokens      %llu prompt (%llu from the prefix cache), %llu generated, %llu steps\n",
      wide(n.prompt_tokens()), wide(n.cached_tokens()), wide(n.generation_tokens()),
      wide(n.steps()));
  for (const v1::EngramLayerNumbers& layer : n.layers()) {
    std::printf(
        "n-gram %-4u %llu rows (%llu distinct), %.1f MiB", layer.layer(), wide(layer.rows()),
        wide(layer.unique_rows()), static_cast<double>(layer.bytes()) / (1 << 20));
    if (layer.has_gather_seconds()) std::printf(", gather %.3f s", layer.gather_seconds());
    if (layer.has_exposed_wait_seconds()) {
      std::printf(", exposed wait %.6f s", layer.exposed_wait_seconds());
    }
    std::printf("\n");
  }
  if (n.rows_verified() + n.rows_unverified() > 0) {
    std::printf(
        "verified    %llu rows, %llu WRONG, %llu whose source could not be read in time\n",
        wide(n.rows_verified()), wide(n.rows_wrong()), wide(n.rows_unverified()));
  }
  if (n.layers_size() > 0) std::printf("n-gram hash %.3f s\n", n.hash_seconds());
}

int stats(const StatsArguments& a) {
  const auto stub = v1::Admin::NewStub(connect(a.server));
  while (true) {
    v1::GetServerInfoResponse info;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    const grpc::Status status = stub->GetServerInfo(&context, v1::GetServerInfoRequest(), &info);
    if (!status.ok()) return report_failure(status, a.server);
    if (a.json) {
      std::string text;
      google::protobuf::util::JsonPrintOptions options;
      options.preserve_proto_field_names = true;
      options.always_print_primitive_fields = true;
      if (!google::protobuf::util::MessageToJsonString(info, &text, options).ok()) return kFailed;
      std::printf("%s\n", text.c_str());
    } else {
      std::printf(
          "server      engramd %s at %s, %s, up %.0f s\n", info.version().c_str(), a.server.c_str(),
          phase_name(info.phase()), info.uptime_seconds());
      if (info.has_load()) {
        std::printf(
            "loading     %s, %.0f %%\n", info.load().stage().c_str(), info.load().percent());
      }
      if (info.has_engine()) print_engine(info.engine());
      if (info.has_numbers()) print_numbers(info.numbers());
    }
    std::fflush(stdout);
    if (a.watch <= 0) return kDone;
    std::this_thread::sleep_for(std::chrono::duration<double>(a.watch));
    std::printf("\n");
  }
}

}  // namespace

void add_stats_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand("stats", "What a server serves and how it fares");
  auto a = std::make_shared<StatsArguments>();
  add_server_option(*command, &a->server);
  command->add_flag("--json", a->json, "One object");
  command->add_option("--watch", a->watch, "Again every so many seconds");
  command->callback([a, invocation] { invocation->run = [a] { return stats(*a); }; });
}

}  // namespace engram::tools

#include <engram/v1/admin.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "server/front.h"
#include "server/log.h"
#include "server/services.h"
#include "server/table_messages.h"
#include "server/unary.h"
#include "server/version.h"

namespace engram::server {
namespace {

v1::Phase phase_of(Phase phase) {
  switch (phase) {
    case Phase::kLoading:
      return v1::PHASE_LOADING;
    case Phase::kReady:
      return v1::PHASE_READY;
    case Phase::kDraining:
      return v1::PHASE_DRAINING;
  }
  return v1::PHASE_UNSPECIFIED;
}

constexpr size_t kMaxPathBytes = 4096;

uint64_t unsigned_of(int64_t value) {
  return static_cast<uint64_t>(value);
}

void describe(const EngineSlot& slot, const engine::EngineInfo& info, v1::EngineDescription* to) {
  to->set_model_path(info.model_path);
  for (const std::string& name : slot.served_names()) to->add_served_names(name);
  to->set_architecture(info.architecture);
  to->set_device(info.device);
  to->set_max_model_len(unsigned_of(info.max_model_len));
  to->set_max_num_seqs(unsigned_of(info.max_num_seqs));
  to->set_max_num_batched_tokens(unsigned_of(info.max_num_batched_tokens));
  to->set_kv_pages(unsigned_of(info.kv_pages));
  to->set_page_tokens(static_cast<uint64_t>(info.page_tokens));
  if (!info.table_placement.empty()) to->set_table_placement(info.table_placement);
}

void report(const engine::EngineStats& stats, v1::EngineNumbers* to) {
  to->set_running(unsigned_of(stats.running));
  to->set_waiting(unsigned_of(stats.waiting));
  to->set_kv_pages_total(unsigned_of(stats.kv_pages_total));
  to->set_kv_pages_free(unsigned_of(stats.kv_pages_free));
  to->set_prompt_tokens(unsigned_of(stats.prompt_tokens));
  to->set_generation_tokens(unsigned_of(stats.generation_tokens));
  to->set_cached_tokens(unsigned_of(stats.cached_tokens));
  to->set_preemptions(unsigned_of(stats.preemptions));
  to->set_steps(unsigned_of(stats.steps));
  for (const auto& [reason, count] : stats.finished) {
    (*to->mutable_finished())[engine::finish_reason_name(reason)] = unsigned_of(count);
  }
  to->set_table_swaps(unsigned_of(stats.table_swaps));
  to->set_row_retries(unsigned_of(stats.row_retries));
  to->set_rows_verified(unsigned_of(stats.rows_verified));
  to->set_rows_wrong(unsigned_of(stats.rows_wrong));
  to->set_rows_unverified(unsigned_of(stats.rows_unverified));
  to->set_hash_seconds(static_cast<double>(stats.hash_ns) * 1e-9);
  for (const engine::EngineStats::Layer& layer : stats.layers) {
    v1::EngramLayerNumbers* numbers = to->add_layers();
    numbers->set_layer(static_cast<uint32_t>(layer.layer));
    numbers->set_rows(unsigned_of(layer.rows));
    numbers->set_unique_rows(unsigned_of(layer.unique_rows));
    numbers->set_bytes(unsigned_of(layer.bytes));
    if (layer.gather_ns) {
      numbers->set_gather_seconds(static_cast<double>(*layer.gather_ns) * 1e-9);
    }
    if (layer.exposed_wait_ns) {
      numbers->set_exposed_wait_seconds(static_cast<double>(*layer.exposed_wait_ns) * 1e-9);
    }
  }
}

void report(const engine::StartProgress& progress, v1::LoadProgress* to) {
  to->set_stage(progress.stage);
  to->set_percent(percent_of(progress));
  to->set_bytes_done(unsigned_of(progress.bytes_done));
  to->set_bytes_total(unsigned_of(progress.bytes_total));
}

class AdminService final : public v1::Admin::CallbackService {
 public:
  explicit AdminService(Front& front) : front_(front) {}

  grpc::ServerUnaryReactor* GetServerInfo(
      grpc::CallbackServerContext* context,
      const v1::GetServerInfoRequest*,
      v1::GetServerInfoResponse* response) override {
    return answer(context, front_.metrics, "engram.v1.Admin", "GetServerInfo", [&]() -> CallError {
      response->set_version(kVersion);
      response->set_grpc_version(grpc::Version());
      response->set_phase(phase_of(front_.slot.phase()));
      const std::chrono::duration<double> up = std::chrono::steady_clock::now() - started_;
      response->set_uptime_seconds(up.count());
      if (const auto progress = front_.slot.load()) report(*progress, response->mutable_load());
      if (const std::shared_ptr<engine::Engine> engine = front_.slot.engine()) {
        describe(front_.slot, engine->info(), response->mutable_engine());
        const engine::EngineStats stats = engine->stats();
        front_.metrics.observe_engine(stats);
        report(stats, response->mutable_numbers());
      }
      return {};
    });
  }

  grpc::ServerUnaryReactor* GetTables(
      grpc::CallbackServerContext* context,
      const v1::GetTablesRequest*,
      v1::GetTablesResponse* response) override {
    return answer(context, front_.metrics, "engram.v1.Admin", "GetTables", [&]() -> CallError {
      const std::shared_ptr<engine::Engine> engine = front_.slot.engine();
      if (engine == nullptr) return {memory::unavailable("the model is loading"), ""};
      const std::vector<memory::TableReport> reports = engine->tables();
      for (const memory::TableReport& report : reports)
        describe_table(report, response->add_tables());
      return {};
    });
  }

  grpc::ServerUnaryReactor* SwapTable(
      grpc::CallbackServerContext* context,
      const v1::SwapTableRequest* request,
      v1::SwapTableResponse* response) override {
    return answer_later(
        context, front_.metrics, front_.operation, "engram.v1.Admin", "SwapTable",
        [this, request, response] { return swap(*request, response); });
  }

 private:
  CallError swap(const v1::SwapTableRequest& request, v1::SwapTableResponse* response) {
    const std::string& directory = request.directory();
    if (directory.empty() || directory.size() > kMaxPathBytes) {
      return {
          memory::invalid_argument(
              "directory must have 1 to " + std::to_string(kMaxPathBytes) + " bytes, got " +
              std::to_string(directory.size())),
          "directory"};
    }
    memory::Result<std::shared_ptr<engine::Engine>> engine = front_.slot.ready_engine();
    if (!engine.ok()) return {engine.status(), ""};
    memory::TableSetOptions options = front_.tables;
    options.directory = directory;
    memory::Result<engine::TableSwap> swapped = engine.value()->swap_tables(options);
    if (!swapped.ok()) {
      log_line(
          LogLevel::kError, "the tables were not swapped",
          {{"directory", directory}, {"error", swapped.status().message()}});
      return {swapped.status(), ""};
    }
    const engine::TableSwap& result = swapped.value();
    response->set_old_version(result.old_version);
    response->set_new_version(result.new_version);
    response->set_load_seconds(result.open_seconds);
    response->set_pause_seconds(result.pause_seconds);
    response->set_refetched_tokens(unsigned_of(result.refetched_tokens));
    return {};
  }

  Front& front_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace

std::unique_ptr<grpc::Service> make_admin_service(Front& front) {
  return std::make_unique<AdminService>(front);
}

}  // namespace engram::server

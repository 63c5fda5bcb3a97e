#include "server/server.h"

#include <grpc/health/v1/health.grpc.pb.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/server_builder_option.h>
#include <grpcpp/impl/server_builder_plugin.h>
#include <grpcpp/resource_quota.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "server/completion_call.h"
#include "server/front.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/services.h"
#include "server/stats_line.h"
#include "server/version.h"

namespace engram::server {
namespace {

using Milliseconds = std::chrono::milliseconds;
using engine::Clock;

constexpr Milliseconds kTick(100);
// After the drain, the last words of calls that were cut off have this long to reach the client.
constexpr Milliseconds kLastWords(2000);
constexpr int kMaxSendBytes = 16 << 20;
constexpr int kMaxMetadataBytes = 16 << 10;
constexpr int kMinPingIntervalMs = 10000;

Clock::duration seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

int milliseconds(double value) {
  return static_cast<int>(value * 1e3);
}

std::string address_of(const std::string& host, int64_t port) {
  const bool v6 = host.find(':') != std::string::npos && host.front() != '[';
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

// The library adds its plugin to every builder of a program that links it; this takes it out again.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins, [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
      return plugin->name() == "proto_server_reflection";
    });
  }
};

void set_arguments(const Options& options, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(options.grpc_max_recv_bytes));
  builder->SetMaxSendMessageSize(kMaxSendBytes);
  builder->AddChannelArgument(
      GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.grpc_max_concurrent_streams));
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder->AddChannelArgument(
      GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options.grpc_keepalive_time));
  builder->AddChannelArgument(
      GRPC_ARG_KEEPALIVE_TIMEOUT_MS, milliseconds(options.grpc_keepalive_timeout));
  // gRPC's default drops clients that ping more often than every 5 minutes; gateways do.
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingIntervalMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Otherwise a second server on the same port would start and share its connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("engramd");
  quota.Resize(static_cast<size_t>(options.grpc_memory_bytes));
  quota.SetMaxThreads(4 * static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  builder->SetResourceQuota(quota);
}

}  // namespace

struct Server::Parts {
  explicit Parts(const Options& o)
      : options(o),
        metrics(o.served_model_names[0], kVersion),
        front(o.served_model_names, metrics) {
    front.max_request_seconds = o.max_request_seconds;
    front.log_requests = o.log_requests;
    front.tables = o.engine.tables;
    std::random_device entropy;
    front.id_salt = (uint64_t{entropy()} << 32) | entropy();
    services.push_back(make_completions_service(front));
    services.push_back(make_models_service(front));
    services.push_back(make_tokenizer_service(front));
    services.push_back(make_admin_service(front));
  }

  void set_ready(bool ready) {
    grpc::HealthCheckServiceInterface* health = grpc->GetHealthCheckService();
    health->SetServingStatus("readiness", ready);
    for (const char* name : kServiceNames) health->SetServingStatus(name, ready);
  }

  // Liveness: the process answers and the engine's loop turns.
  void check_heartbeat(const engine::EngineStats& stats) {
    const int64_t age = Clock::now().time_since_epoch().count() - stats.heartbeat_ns;
    const bool alive = static_cast<double>(age) * 1e-9 < options.engine_stall_timeout;
    if (alive == live) return;
    live = alive;
    grpc->GetHealthCheckService()->SetServingStatus("", alive);
    log_line(
        alive ? LogLevel::kInfo : LogLevel::kError,
        alive ? "the engine's loop turns again" : "the engine's loop has stopped turning",
        {{"seconds", static_cast<double>(age) * 1e-9}});
  }

  // Once a second: numbers of the engine, stalled readers.
  void observe() {
    const std::shared_ptr<engine::Engine> engine = front.slot.engine();
    if (engine != nullptr) {
      const engine::EngineStats stats = engine->stats();
      metrics.observe_engine(stats);
      metrics.observe_tables(engine->tables());
      const std::optional<engine::StartProgress> load = front.slot.load();
      metrics.set_load(load ? percent_of(*load) / 100 : 1);
      check_heartbeat(stats);
      if (options.log_stats) stats_line.observe(stats);
    }
    const Clock::time_point now = Clock::now();
    for (const std::shared_ptr<CompletionCall>& call : front.calls.all()) {
      call->check_stall(now, seconds(options.client_stall_timeout));
    }
  }

  // One tick of the main loop.
  void tick() {
    std::this_thread::sleep_for(kTick);
    const Clock::time_point now = Clock::now();
    if (now - last_observed < std::chrono::seconds(1)) return;
    last_observed = now;
    observe();
  }

  // Keeps gRPC's threads from their 100 ms naps, which a first request after a pause would wait
  // for.
  void ping_loop() {
    const auto stub = ::grpc::health::v1::Health::NewStub(grpc->InProcessChannel({}));
    while (!stopping.load()) {
      ::grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(1));
      ::grpc::health::v1::HealthCheckRequest request;
      ::grpc::health::v1::HealthCheckResponse response;
      static_cast<void>(stub->Check(&context, request, &response));
      std::this_thread::sleep_for(seconds(options.grpc_self_ping));
    }
  }

  // Waits for `done` with the main loop going on.
  template <typename Done>
  bool wait(Clock::time_point until, const Done& done) {
    while (!done()) {
      if (Clock::now() >= until) return false;
      tick();
    }
    return true;
  }

  void drain();

  const Options options;
  Metrics metrics;
  Front front;
  std::vector<std::unique_ptr<::grpc::Service>> services;
  std::unique_ptr<::grpc::Server> grpc;
  int port = 0;
  std::thread pinger;
  std::atomic<bool> stopping = false;  // read by the pinger
  // main thread
  bool live = true;
  Clock::time_point last_observed;
  StatsLine stats_line;
};

Server::Server(const Options& options) : parts_(std::make_unique<Parts>(options)) {}

Server::~Server() {
  parts_->stopping = true;
  if (parts_->pinger.joinable()) parts_->pinger.join();
  if (parts_->grpc != nullptr) {
    parts_->grpc->Shutdown(std::chrono::system_clock::now() + kLastWords);
    parts_->grpc->Wait();
  }
}

memory::Status Server::start() {
  Parts& p = *parts_;
  const std::string address = address_of(p.options.host, p.options.port);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!p.options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  set_arguments(p.options, &builder);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &p.port);
  for (const std::unique_ptr<grpc::Service>& service : p.services) {
    builder.RegisterService(service.get());
  }
  p.grpc = builder.BuildAndStart();
  if (p.grpc == nullptr || p.port == 0) {
    p.grpc.reset();
    return memory::unavailable(
        "cannot listen on " + address +
        ": the address is in use or not of this machine; choose "
        "another with --host and --port");
  }
  p.set_ready(false);
  if (p.options.metrics) {
    ENGRAM_RETURN_IF_ERROR(
        p.metrics.serve(p.options.metrics_host, static_cast<int>(p.options.metrics_port)));
  }
  LogFields ports = {{"address", address_of(p.options.host, p.port)}};
  if (p.options.metrics) {
    const std::string metrics = address_of(p.options.metrics_host, p.metrics.port());
    ports.emplace_back("metrics", "http://" + metrics + "/metrics");
  }
  log_line(LogLevel::kInfo, "listening", ports);
  if (p.options.grpc_self_ping > 0) p.pinger = std::thread([&p] { p.ping_loop(); });
  const std::string& host = p.options.host;
  if (host != "127.0.0.1" && host != "localhost" && host != "::1") {
    log_warning(
        "listening on " + address +
        " without TLS or access control: anybody who reaches this "
        "port can use the server");
  }
  return {};
}

memory::Status Server::run(const EngineFactory& factory, const std::atomic<int>& stop_signal) {
  Parts& p = *parts_;
  const Clock::time_point begin = Clock::now();
  std::atomic<bool> loaded = false;  // the loader's last write
  memory::Result<std::unique_ptr<engine::Engine>> engine = memory::unavailable("loading");
  std::thread loader([&] {
    engine = factory([&p](const engine::StartProgress& progress) {
      p.front.slot.set_progress(progress);
      p.metrics.set_load(percent_of(progress) / 100);
    });
    loaded = true;
  });
  p.wait(Clock::time_point::max(), [&] { return loaded.load() || stop_signal.load() != 0; });
  if (!loaded.load()) {
    // A load cannot be interrupted; nothing depends on its end.
    log_info("stopped while the model was loading");
    stop_logging();
    std::_Exit(0);
  }
  loader.join();
  if (!engine.ok()) return engine.status();
  const std::chrono::duration<double> taken = Clock::now() - begin;
  p.metrics.model_loaded(taken.count());
  p.metrics.set_engine(engine.value()->info());
  log_engine(engine.value()->info(), taken.count());
  p.front.slot.set_ready(std::move(engine).value());
  p.set_ready(true);
  log_line(
      LogLevel::kInfo, "ready",
      {{"address", address_of(p.options.host, p.port)},
       {"try", "engram complete --server " + address_of(p.options.host, p.port) + " \"...\""}});
  const std::shared_ptr<engine::Engine> served = p.front.slot.engine();
  p.wait(
      Clock::time_point::max(), [&] { return stop_signal.load() != 0 || !served->failure().ok(); });
  const memory::Status failure = served->failure();
  if (!failure.ok()) log_error(failure.message());
  p.drain();
  if (failure.ok()) return {};
  return memory::unavailable("stopped because the engine failed, as the log says");
}

void Server::Parts::drain() {
  front.slot.set_draining();
  metrics.set_draining(true);
  set_ready(false);
  log_line(
      LogLevel::kInfo, "draining",
      {{"calls", front.calls.size()}, {"seconds", options.shutdown_timeout}});
  const auto idle = [this] { return front.calls.size() == 0; };
  if (!wait(Clock::now() + seconds(options.shutdown_timeout), idle)) {
    log_line(LogLevel::kWarning, "cancelling what is left", {{"calls", front.calls.size()}});
    for (const std::shared_ptr<CompletionCall>& call : front.calls.all()) {
      call->abort(memory::Code::kUnavailable, "the server is shutting down", "drain");
    }
    wait(Clock::now() + kLastWords, idle);
  }
  grpc->GetHealthCheckService()->Shutdown();
  stopping = true;
  if (pinger.joinable()) pinger.join();
  grpc->Shutdown(std::chrono::system_clock::now() + kLastWords);
  grpc->Wait();
  if (const std::shared_ptr<engine::Engine> engine = front.slot.engine()) {
    engine->drain(kLastWords);
    observe();
  }
  log_info("stopped");
}

memory::Status check_health(const std::string& address) {
  const auto channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("readiness");
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, request, &response);
  if (!status.ok()) return memory::unavailable(address + ": " + status.error_message());
  if (response.status() != grpc::health::v1::HealthCheckResponse::SERVING) {
    return memory::unavailable(address + ": not ready");
  }
  return {};
}

}  // namespace engram::server

// A call that is answered on the spot: run, count, finish.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <utility>

#include "server/error_details.h"
#include "server/metrics.h"
#include "server/worker.h"

namespace engram::server {

inline grpc::ServerUnaryReactor* answer(
    grpc::CallbackServerContext* context,
    Metrics& metrics,
    const char* service,
    const char* method,
    const std::function<CallError()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  const CallError error = run();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  metrics.rpc_ended(service, method, error.status.code(), taken.count());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(to_grpc(error));
  return reactor;
}

// The same for a call that takes long: `run` is done by `worker`, so that no thread of gRPC waits
// for it. What `run` refers to lives until the call ends.
inline grpc::ServerUnaryReactor* answer_later(
    grpc::CallbackServerContext* context,
    Metrics& metrics,
    Worker& worker,
    const char* service,
    const char* method,
    std::function<CallError()> run) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  worker.post([reactor, &metrics, service, method, run = std::move(run)] {
    const auto begin = std::chrono::steady_clock::now();
    const CallError error = run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    metrics.rpc_ended(service, method, error.status.code(), taken.count());
    reactor->Finish(to_grpc(error));
  });
  return reactor;
}

}  // namespace engram::server

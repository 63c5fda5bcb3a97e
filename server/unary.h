// A call that is answered on the spot: run, count, finish.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>

#include "server/error_details.h"
#include "server/metrics.h"

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

}  // namespace engram::server

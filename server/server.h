// The server's life: listen, load, serve, drain. One object per process.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "engine/run/engine.h"
#include "memory/base/status.h"
#include "server/options.h"

namespace engram::server {

// How a server comes to its engine; called on a thread of its own, tells how far it is.
using OnProgress = std::function<void(const engine::StartProgress&)>;
using EngineFactory = std::function<memory::Result<std::unique_ptr<engine::Engine>>(OnProgress)>;

class Server {
 public:
  explicit Server(const Options& options);
  ~Server();

  // Listens, with every service NOT_SERVING until the engine is there. UNAVAILABLE names the
  // address that is taken.
  memory::Status start();

  // Loads, then serves until `stop_signal` is not 0; returns after the drain. The error of the
  // factory if the model cannot be loaded; UNAVAILABLE if the engine failed, once its requests have
  // ended.
  memory::Status run(const EngineFactory& factory, const std::atomic<int>& stop_signal);

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
};

// grpc.health.v1 Check of "readiness" at HOST:PORT, within 5 s: ok, or why not.
memory::Status check_health(const std::string& address);

}  // namespace engram::server

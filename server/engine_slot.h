// Where the services find the engine, and in which phase the server is. The server answers from
// its first second; the engine appears here when its model is loaded. Any thread.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "memory/base/status.h"

namespace engram::server {

enum class Phase { kLoading, kReady, kDraining };
const char* phase_name(Phase phase);
double percent_of(const engine::StartProgress& progress);  // 0 to 100

class EngineSlot {
 public:
  explicit EngineSlot(std::vector<std::string> served_names);

  Phase phase() const { return phase_.load(std::memory_order_acquire); }
  void set_ready(std::shared_ptr<engine::Engine> engine);
  void set_draining() { phase_.store(Phase::kDraining, std::memory_order_release); }

  void set_progress(const engine::StartProgress& progress);
  // What is being loaded: what the loader said last, and once it is through, the tables that are
  // still loading while requests are served. Nothing when nothing is.
  std::optional<engine::StartProgress> load() const;

  // The engine, in any phase; null while loading.
  std::shared_ptr<engine::Engine> engine() const;
  // The engine if it takes work; UNAVAILABLE while loading or draining.
  memory::Result<std::shared_ptr<engine::Engine>> ready_engine() const;

  const std::vector<std::string>& served_names() const { return served_names_; }
  // Empty names the one model that is served. NOT_FOUND names what is served.
  memory::Status check_model(const std::string& name) const;

 private:
  std::string loading_text() const;

  const std::vector<std::string> served_names_;  // at least one
  std::atomic<Phase> phase_ = Phase::kLoading;   // read for every request
  mutable std::mutex mu_;
  std::optional<engine::StartProgress> progress_;  // guarded by mu_
  std::shared_ptr<engine::Engine> engine_;         // guarded by mu_; shared with calls in progress
};

}  // namespace engram::server

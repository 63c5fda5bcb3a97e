#include "server/engine_slot.h"

#include <algorithm>
#include <utility>

#include "server/error_details.h"

namespace engram::server {

namespace {

constexpr size_t kMaxNameBytes = 64;

}  // namespace

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::kLoading:
      return "loading";
    case Phase::kReady:
      return "ready";
    case Phase::kDraining:
      return "draining";
  }
  return "unknown";
}

EngineSlot::EngineSlot(std::vector<std::string> served_names)
    : served_names_(std::move(served_names)) {
  ENGRAM_CHECK(!served_names_.empty());
}

void EngineSlot::set_ready(std::shared_ptr<engine::Engine> engine) {
  {
    const std::lock_guard lock(mu_);
    engine_ = std::move(engine);
  }
  // A drain that began while the model was loading stays a drain.
  Phase expected = Phase::kLoading;
  phase_.compare_exchange_strong(expected, Phase::kReady, std::memory_order_acq_rel);
}

std::shared_ptr<engine::Engine> EngineSlot::engine() const {
  const std::lock_guard lock(mu_);
  return engine_;
}

memory::Result<std::shared_ptr<engine::Engine>> EngineSlot::ready_engine() const {
  switch (phase()) {
    case Phase::kLoading:
      return memory::unavailable("the model is loading");
    case Phase::kDraining:
      return memory::unavailable("the server is draining");
    case Phase::kReady:
      break;
  }
  return engine();
}

memory::Status EngineSlot::check_model(const std::string& name) const {
  if (name.empty()) return {};
  if (std::find(served_names_.begin(), served_names_.end(), name) != served_names_.end()) {
    return {};
  }
  std::string served;
  for (const std::string& one : served_names_) served += (served.empty() ? "" : ", ") + one;
  return memory::not_found(
      "model \"" + cut_text(name, kMaxNameBytes) + "\" is not served here; served: " + served);
}

}  // namespace engram::server

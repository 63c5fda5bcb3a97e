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

double percent_of(const engine::StartProgress& progress) {
  if (progress.bytes_total <= 0) return 0;
  const double share =
      static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total);
  return 100 * std::clamp(share, 0., 1.);
}

EngineSlot::EngineSlot(std::vector<std::string> served_names)
    : served_names_(std::move(served_names)) {
  ENGRAM_CHECK(!served_names_.empty());
}

void EngineSlot::set_ready(std::shared_ptr<engine::Engine> engine) {
  {
    const std::lock_guard lock(mu_);
    engine_ = std::move(engine);
    progress_.reset();
  }
  // A drain that began while the model was loading stays a drain.
  Phase expected = Phase::kLoading;
  phase_.compare_exchange_strong(expected, Phase::kReady, std::memory_order_acq_rel);
}

void EngineSlot::set_progress(const engine::StartProgress& progress) {
  const std::lock_guard lock(mu_);
  progress_ = progress;
}

std::optional<engine::StartProgress> EngineSlot::load() const {
  std::shared_ptr<engine::Engine> served;
  {
    const std::lock_guard lock(mu_);
    if (engine_ == nullptr) return progress_;
    served = engine_;
  }
  engine::StartProgress tables{.stage = "n-gram tables"};
  for (const memory::TableReport& table : served->tables()) {
    tables.bytes_done += table.loaded_bytes;
    tables.bytes_total += table.load_bytes;
  }
  if (tables.bytes_done >= tables.bytes_total) return {};
  return tables;
}

std::shared_ptr<engine::Engine> EngineSlot::engine() const {
  const std::lock_guard lock(mu_);
  return engine_;
}

memory::Result<std::shared_ptr<engine::Engine>> EngineSlot::ready_engine() const {
  switch (phase()) {
    case Phase::kLoading:
      return memory::unavailable(loading_text());
    case Phase::kDraining:
      return memory::unavailable("the server is draining");
    case Phase::kReady:
      break;
  }
  return engine();
}

// "the model is loading", and how far it is.
std::string EngineSlot::loading_text() const {
  const std::optional<engine::StartProgress> p = load();
  if (!p || p->bytes_total <= 0) return "the model is loading";
  return "the model is loading: " + p->stage + " " +
         std::to_string(static_cast<int>(percent_of(*p))) + " %";
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

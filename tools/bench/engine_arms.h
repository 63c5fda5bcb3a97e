// Arms of an experiment on one engine in this process: the same weights, pages and addresses, and
// between two measurements the engine changes how it gets its rows. Requests are submitted at the
// times of the plan; times of tokens are taken on the engine's thread, when it hands them out.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tools/bench/experiment.h"

namespace engram::tools::bench {

// Where an engine's tables are: "host", "hbm" or "nvme".
struct TablePlaces {
  std::string own = "host";       // those it started with
  std::vector<std::string> idle;  // by place
};

struct ArmOptions {
  // Once true, a measurement ends early, with CANCELLED.
  const std::atomic<bool>* stop = nullptr;
  // Told several times a second which share of its requests a measurement has done; may be empty.
  std::function<void(double share)> on_share = {};
};

// Arms of the engine. It outlives them; nobody else uses it meanwhile.
//   keys  "N" the module left out; "D" rows prefetched; "S" fetched in the step's own stream; "Z"
//         the module computes with zeros; "H" as D, from the device's memory; "V" as D, from NVMe.
// INVALID_ARGUMENT names an arm there is not, or whose tables there are not.
class EngineArms {
 public:
  static memory::Result<std::unique_ptr<EngineArms>> make(
      engine::Engine* engine,
      const TablePlaces& places,
      const std::vector<std::string>& keys,
      const ArmOptions& options = {});
  ~EngineArms();

  const std::vector<ArmEntry>& entries() const { return entries_; }

 private:
  struct State;
  class EngineArm;

  EngineArms();

  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Arm>> arms_;
  std::vector<ArmEntry> entries_;
};

struct ServeOptions {
  float temperature = 0;
  bool use_prefix_cache = false;
  // Once true, what is left is cancelled; the records say so, and there is no error.
  const std::atomic<bool>* stop = nullptr;
  // Told several times a second how many requests are done, by the calling thread; may be empty.
  std::function<void(size_t done)> on_poll;
};

// Serves the requests of a plan, which have ids, and waits for all of them. The first error of a
// request.
//   tokens  of each request, in the order of the plan
memory::Result<std::vector<RequestRecord>> serve_plan(
    engine::Engine& engine,
    const std::vector<PlannedRequest>& plan,
    std::vector<std::vector<int32_t>>* tokens,
    const ServeOptions& options = {});

}  // namespace engram::tools::bench

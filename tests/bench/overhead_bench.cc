// Whether `engram bench overhead` tells the truth in real time: two simulators whose steps take
// known times, the second one longer by 0, 0.5, 2 and 5 %, measured as arms are.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "engine/run/engine.h"
#include "tests/bench/bench.h"
#include "tests/support/or_die.h"
#include "tools/bench/engine_arms.h"
#include "tools/bench/experiment.h"

namespace engram::bench {
namespace {

namespace tb = tools::bench;

constexpr double kStepMs = 4;

class SleepingArm : public tb::Arm {
 public:
  explicit SleepingArm(double step_ms) {
    engine::FakeEngineOptions options;
    options.step_ms = step_ms;
    engine_ = tests::value_or_die(engine::make_fake_engine(options));
  }

  memory::Result<tb::Sample> measure(const tb::Workload& workload, uint64_t seed) override {
    tb::Sample sample;
    auto records = tb::serve_plan(*engine_, tb::plan_requests(workload, seed), &sample.tokens);
    if (!records.ok()) return records.status();
    tb::read_records(workload, records.value(), &sample);
    return sample;
  }

 private:
  std::unique_ptr<engine::Engine> engine_;
};

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  tb::Workload workload;
  workload.name = "w3";
  workload.batch = 2;
  workload.input = {8, 8};
  workload.output.low = workload.output.high = options.smoke ? 4 : 64;
  workload.id_limit = 250;
  workload.decode_only = true;
  tb::ExperimentOptions experiment;
  experiment.rounds = std::max(options.rounds, tb::kFewestRounds);
  for (const double percent : {0., 0.5, 2., 5.}) {
    SleepingArm n(kStepMs);
    SleepingArm d(kStepMs * (1 + percent / 100));
    const std::vector<tb::ArmEntry> arms = {{"N", "", true, &n}, {"D", "", true, &d}};
    const tb::PointResult point =
        tests::value_or_die(tb::run_experiment(arms, workload, experiment));
    for (const char* metric : {"output_throughput", "tpot_ms", "step_ms"}) {
      const tb::Estimate found = tb::overhead_of(*point.find("D"), *point.find("N"), metric);
      std::printf(
          "%.1f %% slower steps, by %s: %s; the true value is %s\n", percent, metric,
          tb::describe_overhead(found).c_str(), found.contains(percent) ? "inside" : "outside");
    }
  }
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

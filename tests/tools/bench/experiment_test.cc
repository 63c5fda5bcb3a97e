// The experiment on simulated arms, whose truth is known: what it reports, how sure it is, what it
// refuses.
#include "tools/bench/experiment.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tools/bench/simulated_arms.h"

namespace engram::tools::bench {
namespace {

using memory::Result;

Workload decode() {
  Workload w;
  w.name = "w3";
  w.batch = 4;
  w.input = {64, 64};
  w.output = {32, 32};
  w.decode_only = true;
  w.metric = "output_throughput";
  return w;
}

// N, D and Z on one simulated machine.
struct Machine {
  Machine(uint64_t seed, double percent) {
    SimulatedArm n;
    n.seed = seed;
    add("N", n);
    SimulatedArm d = n;
    d.arm = 1;
    d.model = 1;
    d.overhead_percent = percent;
    d.wait_percent = percent / 4;
    add("D", d);
    d.arm = 2;
    add("S", d);
    SimulatedArm z = d;
    z.arm = 3;
    z.model = 2;
    z.overhead_percent = percent / 2;
    z.wait_percent = 0;
    add("Z", z);
  }
  void add(const std::string& key, const SimulatedArm& options) {
    arms.push_back(make_simulated_arm(options));
    entries.push_back({key, "simulated " + key, options.model == 1, arms.back().get()});
  }

  std::vector<std::unique_ptr<Arm>> arms;
  std::vector<ArmEntry> entries;
};

PointResult run(const Machine& machine, const Workload& workload, const ExperimentOptions& o) {
  Result<PointResult> result = run_experiment(machine.entries, workload, o);
  CAPTURE(result.status().to_string());
  REQUIRE(result.ok());
  return std::move(result).value();
}

// Counts what it is asked for.
class CountingArm : public Arm {
 public:
  Result<Sample> measure(const Workload& workload, uint64_t seed) override {
    seeds.push_back(seed);
    if (log != nullptr) log->push_back(this);
    Sample sample;
    sample.output_throughput = 100;
    for (const PlannedRequest& request : plan_requests(workload, seed)) {
      sample.tokens.emplace_back(static_cast<size_t>(request.max_tokens), 7);
    }
    if (static_cast<int>(seeds.size()) == wrong_at) sample.tokens[2][5] = 8;
    return sample;
  }

  std::vector<uint64_t> seeds;
  std::vector<const Arm*>* log = nullptr;
  int wrong_at = -1;
};

}  // namespace

TEST_CASE("experiment: the true overhead is inside the interval in 95 of 100 runs") {
  const double percent = GENERATE(0., 0.5, 2., 5.);
  CAPTURE(percent);
  int inside = 0;
  int nothing = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Machine machine(seed, percent);
    ExperimentOptions options;
    options.seed = seed;
    const PointResult point = run(machine, decode(), options);
    const Estimate found = overhead_of(*point.find("D"), *point.find("N"), "output_throughput");
    REQUIRE(found.rounds == 11);
    inside += found.contains(percent) ? 1 : 0;
    nothing += describe_overhead(found).starts_with("not distinguishable from 0") ? 1 : 0;
  }
  CHECK(inside >= 95);
  if (percent == 0) CHECK(nothing >= 95);
}

TEST_CASE("experiment: without stalls, 5 % is seen by every run and 2 % by most") {
  const double percent = GENERATE(2., 5.);
  CAPTURE(percent);
  int seen = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    Machine machine(seed, 0);
    machine.arms.clear();
    machine.entries.clear();
    SimulatedArm arm;
    arm.seed = seed;
    arm.stall_probability = 0;
    machine.add("N", arm);
    arm.arm = 1;
    arm.overhead_percent = percent;
    machine.add("D", arm);
    const PointResult point = run(machine, decode(), {});
    const Estimate found = overhead_of(*point.find("D"), *point.find("N"), "output_throughput");
    seen += found.low > 0 ? 1 : 0;
  }
  CHECK(seen >= (percent == 5 ? 100 : 80));
}

TEST_CASE("experiment: without noise the figures and the split are exact") {
  Machine machine(1, 0);
  machine.arms.clear();
  machine.entries.clear();
  SimulatedArm quiet;
  quiet.round_noise = quiet.own_noise = quiet.stall_probability = 0;
  machine.add("N", quiet);
  quiet.model = 1;
  quiet.overhead_percent = 4;
  quiet.wait_percent = 1;
  machine.add("D", quiet);
  quiet.model = 2;
  quiet.overhead_percent = 2;
  quiet.wait_percent = 0;
  machine.add("Z", quiet);
  Workload workload = decode();
  workload.metric = "step_ms";
  const PointResult point = run(machine, workload, {});
  const ArmRounds& n = *point.find("N");
  CHECK(n.samples[0].step_ms == Approx(5));
  // The prompts take 256 / 20000 s, before the first token.
  CHECK(n.samples[0].ttft_ms == Approx(5 + 12.8));
  CHECK(n.samples[0].tpot_ms == Approx(5));
  CHECK(n.samples[0].output_throughput == Approx(128 / (32 * 5e-3 + 12.8e-3)));
  CHECK(n.samples[0].total_throughput == Approx((128 + 256) / (32 * 5e-3 + 12.8e-3)));
  for (const char* metric : kMetrics) {
    CAPTURE(metric);
    CHECK(overhead_of(*point.find("D"), n, metric).value == Approx(4));
    CHECK(overhead_of(*point.find("Z"), n, metric).value == Approx(2));
  }
  const CostSplit split = split_cost(point);
  REQUIRE(split.has_interference);
  CHECK(split.projections_and_gate == Approx(2));
  // Of the mean step, which the prompts make longer; a step that waits is slower itself.
  CHECK(split.exposed_wait == Approx(1.04 * 5 / (5 + 12.8 / 32)));
  CHECK(split.interference == Approx(4 - 2 - split.exposed_wait));
  PointResult untimed = point;
  for (ArmRounds& arm : untimed.arms) {
    for (Sample& sample : arm.samples) sample.wait_seconds.clear();
  }
  CHECK(split_cost(untimed).has_projections);
  CHECK_FALSE(split_cost(untimed).has_wait);
  CHECK_FALSE(split_cost(untimed).has_interference);
  CHECK(point.quiet.quiet());
  CHECK(point.quiet.spread_percent == Approx(0));
}

TEST_CASE("experiment: a run whose equal arms differ is not quiet") {
  Machine machine(3, 0);
  machine.arms.clear();
  machine.entries.clear();
  SimulatedArm noisy;
  noisy.own_noise = 0.3;
  machine.add("D", noisy);
  const PointResult point = run(machine, decode(), {});
  CAPTURE(point.quiet.spread_percent, point.quiet.limit_percent);
  CHECK_FALSE(point.quiet.quiet());
}

TEST_CASE("experiment: every arm gets the same requests, new ones each round, in turns") {
  CountingArm n;
  CountingArm d;
  CountingArm s;
  std::vector<const Arm*> log;
  n.log = d.log = s.log = &log;
  const std::vector<ArmEntry> arms = {
      {"N", "", false, &n}, {"D", "", true, &d}, {"S", "", true, &s}};
  ExperimentOptions options;
  options.rounds = 4;
  options.warm_ups = 1;
  int told = 0;
  options.on_measured = [&](int done, int total) {
    CHECK(done == ++told);
    CHECK(total == 20);
  };
  const Result<PointResult> point = run_experiment(arms, decode(), options);
  REQUIRE(point.ok());
  CHECK(told == 20);
  CHECK(point.value().rounds() == 4);
  CHECK(n.seeds == s.seeds);
  CHECK(std::set<uint64_t>(n.seeds.begin(), n.seeds.end()).size() == 5);
  REQUIRE(d.seeds.size() == 10);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(d.seeds[2 * i] == n.seeds[i]);
    CHECK(d.seeds[2 * i + 1] == n.seeds[i]);
  }
  // Who begins a round changes.
  CHECK(log[0] != log[4]);
  CHECK(point.value().find("D")->token_hash == point.value().find("S")->token_hash);
  CHECK(point.value().find("X") == nullptr);
}

TEST_CASE("experiment: a token that differs is an error that says where") {
  CountingArm d;
  CountingArm v;
  v.wrong_at = 3;
  const std::vector<ArmEntry> arms = {{"D", "", true, &d}, {"V", "", true, &v}};
  const Result<PointResult> differs = run_experiment(arms, decode(), {});
  CHECK(differs.status().code() == memory::Code::kDataLoss);
  CHECK(
      differs.status().message() ==
      "arm V answers unlike arm D: request 2, position 5: token 8, expected 7");
  // Arms of other models may answer as they like.
  CountingArm z;
  z.wrong_at = 3;
  CHECK(
      run_experiment(std::vector<ArmEntry>{{"D", "", true, &d}, {"Z", "", false, &z}}, decode(), {})
          .ok());
  // The same arm twice in a round, too.
  CountingArm unsteady;
  unsteady.wrong_at = 2;
  CHECK_FALSE(run_experiment(std::vector<ArmEntry>{{"D", "", true, &unsteady}}, decode(), {}).ok());
}

TEST_CASE("experiment: stopped, it keeps whole rounds only") {
  CountingArm n;
  CountingArm d;
  std::atomic<bool> stop = false;
  ExperimentOptions options;
  options.stop = &stop;
  options.on_measured = [&](int done, int) { stop = done == 11; };
  const std::vector<ArmEntry> arms = {{"N", "", false, &n}, {"D", "", true, &d}};
  const Result<PointResult> point = run_experiment(arms, decode(), options);
  REQUIRE(point.ok());
  CHECK(point.value().interrupted);
  CHECK(point.value().rounds() == 2);  // after one to warm up
  CHECK(point.value().find("D")->samples.size() == 2);
}

TEST_CASE("experiment: groups take turns round by round, each after what comes before its rounds") {
  CountingArm d;
  CountingArm n;
  CountingArm other;
  std::vector<const Arm*> log;
  d.log = n.log = other.log = &log;
  std::vector<size_t> measured_before;
  const ArmGroup groups[] = {
      {.arms = {{"D", "", true, &d}, {"N", "", false, &n}},
       .before_round =
           [&] {
             measured_before.push_back(log.size());
             return memory::Status();
           }},
      {.arms = {{"D", "", true, &other}}}};
  ExperimentOptions options;
  options.rounds = 3;
  options.warm_ups = 1;
  int told = 0;
  options.on_measured = [&](int done, int total) {
    CHECK(done == ++told);
    CHECK(total == 20);
  };
  const Result<std::vector<PointResult>> points = run_experiments(groups, decode(), options);
  REQUIRE(points.ok());
  REQUIRE(points.value().size() == 2);
  CHECK(points.value()[0].rounds() == 3);
  CHECK(points.value()[1].rounds() == 3);
  CHECK(points.value()[1].arms.size() == 1);
  // Three measurements of the first group, then two of the second.
  CHECK(measured_before == std::vector<size_t>{0, 5, 10, 15});
  REQUIRE(log.size() == 20);
  for (size_t i = 0; i < log.size(); ++i) CHECK((log[i] == &other) == (i % 5 >= 3));
  CHECK(d.seeds == other.seeds);

  std::atomic<bool> stop = false;
  options.stop = &stop;
  options.on_measured = [&](int done, int) { stop = done == 14; };
  const Result<std::vector<PointResult>> stopped = run_experiments(groups, decode(), options);
  REQUIRE(stopped.ok());
  CHECK(stopped.value()[0].rounds() == 2);
  CHECK(stopped.value()[1].rounds() == 1);
  CHECK(stopped.value()[0].interrupted);
  CHECK(stopped.value()[1].interrupted);

  const ArmGroup refused = {
      .arms = {{"D", "", true, &d}}, .before_round = [] { return memory::unavailable("not now"); }};
  CHECK(run_experiments({&refused, 1}, decode(), {}).status().code() == memory::Code::kUnavailable);
}

TEST_CASE("experiment: what there is nothing to measure of has no rounds") {
  CountingArm n;
  CountingArm d;
  const std::vector<ArmEntry> arms = {{"N", "", false, &n}, {"D", "", true, &d}};
  const Result<PointResult> point = run_experiment(arms, decode(), {});
  REQUIRE(point.ok());
  const ArmRounds& arm = *point.value().find("D");
  CHECK(overhead_of(arm, *point.value().find("N"), "tpot_ms").rounds == 0);
  CHECK(overhead_of(arm, *point.value().find("N"), "output_throughput").rounds == 11);
  CHECK_FALSE(split_cost(point.value()).has_wait);
}

TEST_CASE("workload: drawn from the seed, within its bounds") {
  constexpr uint64_t kSeed = 9;
  CAPTURE(kSeed);
  Workload w;
  w.batch = 200;
  w.input = {5, 9};
  w.output = {1, 3};
  w.id_limit = 50;
  w.request_rate = 100;
  const std::vector<PlannedRequest> plan = plan_requests(w, kSeed);
  REQUIRE(plan.size() == 200);
  std::set<int64_t> inputs;
  std::set<int64_t> outputs;
  double before = 0;
  for (const PlannedRequest& r : plan) {
    CHECK(static_cast<int64_t>(r.prompt_ids.size()) == r.prompt_tokens);
    inputs.insert(r.prompt_tokens);
    outputs.insert(r.max_tokens);
    for (const uint32_t id : r.prompt_ids) REQUIRE(id < 50);
    CHECK(r.at_s >= before);
    before = r.at_s;
  }
  CHECK(inputs == std::set<int64_t>{5, 6, 7, 8, 9});
  CHECK(outputs == std::set<int64_t>{1, 2, 3});
  CHECK(before == Approx(2).margin(0.6));
  CHECK(plan_requests(w, kSeed)[7].prompt_ids == plan[7].prompt_ids);
  CHECK(plan_requests(w, kSeed + 1)[7].prompt_ids != plan[7].prompt_ids);

  std::vector<int32_t> text;
  for (int32_t i = 0; i < 100; ++i) text.push_back(1000 + i);
  w.text = std::make_shared<const std::vector<int32_t>>(text);
  w.request_rate = 0;
  for (const PlannedRequest& r : plan_requests(w, kSeed)) {
    CHECK(r.at_s == 0);
    for (size_t i = 1; i < r.prompt_ids.size(); ++i) {
      REQUIRE(r.prompt_ids[i] == r.prompt_ids[i - 1] + 1);
    }
  }
}

}  // namespace engram::tools::bench

// What an engine did meanwhile, from its statistics: steps, tokens, rows, and what its ops moved
// and computed; and how long the machine would have needed for that at least.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/engine.h"

namespace engram::tools::bench {

struct OpWork {
  std::string name;
  int64_t calls = 0;
  int64_t bytes = 0;
  int64_t flops = 0;
};

// Steps that compute a token of a prompt, or the others.
struct StepKind {
  int64_t steps = 0;
  int64_t tokens = 0;  // of that kind; a prefill step may compute tokens of answers too
  double seconds = 0;
};

struct EngineWork {
  std::vector<double> step_seconds;
  std::vector<double> wait_seconds;  // for n-gram rows, of the same steps; empty: not timed
  StepKind prefill;
  StepKind decode;
  int64_t cached_tokens = 0;  // of prompts, found in the prefix cache
  int64_t preemptions = 0;
  int64_t rows = 0;         // over all Engram layers
  int64_t unique_rows = 0;  // distinct within each fetch
  int64_t row_bytes = 0;    // as stored
  double hash_seconds = 0;
  std::optional<double> gather_seconds;  // none: not timed
  std::vector<OpWork> ops;               // that were called

  double seconds() const { return prefill.seconds + decode.seconds; }  // of all steps
};

// Adds `more` to what `work` has.
void add_work(const EngineWork& more, EngineWork* work);

// From its making on. One thread; nobody else asks the engine for statistics meanwhile.
class WorkMeter {
 public:
  explicit WorkMeter(engine::Engine* engine);

  // Many times a second: an engine remembers the times of its last 4096 steps only.
  void poll();
  EngineWork read();

 private:
  engine::Engine* const engine_;
  engine::EngineStats before_;
  EngineWork work_;
};

// What the machine reaches when it does nothing else; 0: not known.
struct MachinePeaks {
  double read_gbps = 0;
  double copy_gbps = 0;
  double gflops = 0;  // 1e9 multiplications and additions per second
};

// Of the engine's steps against the machine. 0: a peak is not known, or nothing ran.
struct Roofline {
  double least_seconds = 0;  // each op as fast as memory or arithmetic allows, whichever is slower
  double share = 0;          // of the steps' time: least_seconds over it
  double memory_share = 0;   // bytes per second of the steps' time, over the peak
  double compute_share = 0;  // operations per second, over the peak
};
double least_seconds(const OpWork& op, const MachinePeaks& peaks);
Roofline hold_against(const EngineWork& work, const MachinePeaks& peaks);

}  // namespace engram::tools::bench

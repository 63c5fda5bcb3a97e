// Arms of an experiment in virtual time: known step times, an overhead known exactly, noise that
// all arms of a round share, noise of each measurement's own, and stalls. They show whether an
// experiment reports what is there, in seconds for hundreds of runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tools/bench/experiment.h"

namespace engram::tools::bench {

struct SimulatedArm {
  double step_ms = 5;
  double prefill_tokens_per_second = 20000;
  int64_t max_num_seqs = 64;
  // Every step takes so much longer than without.
  double overhead_percent = 0;
  // Of a step, within the overhead: what it waits for rows.
  double wait_percent = 0;
  // Standard deviations of logarithms: of a round, the same for arms of one seed; of a measurement.
  double round_noise = 0.1;
  double own_noise = 0.01;
  // Measurements that are held up, and by how much of their time, at most.
  double stall_probability = 0.1;
  double longest_stall = 0.7;
  uint64_t seed = 0;   // of the noise; arms that share a machine have the same
  uint64_t arm = 0;    // tells arms of one seed apart
  uint64_t model = 0;  // arms of one model answer alike
};

std::unique_ptr<Arm> make_simulated_arm(const SimulatedArm& options);

}  // namespace engram::tools::bench

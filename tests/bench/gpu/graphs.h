// What CUDA graphs cost. Free of CUDA headers.
#pragma once

namespace engram::bench::gpu {

// Of one replay of a graph of `kernels` tiny kernels in a row, microseconds.
struct GraphCosts {
  double launches_us = 0;  // the same kernels started one by one
  double plain_us = 0;
  double early_us = 0;   // with programmatic dependent launch; 0: not where ops start none early
  double forked_us = 0;  // with a branch of one kernel beside them that the last one waits for
  double beside_us = 0;  // with that kernel started on another stream, before the graph
};
GraphCosts measure_graphs(int kernels, int replays);

}  // namespace engram::bench::gpu

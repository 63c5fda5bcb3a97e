// What the processor can compute, as a loop that does nothing else. Highway, best target.
#pragma once

#include <cstdint>

namespace engram::tools::bench {

// `count` times 24 independent multiply-adds on whole vectors of float32.
float multiply_add(int64_t count);
// Floating-point operations of one count.
int64_t multiply_add_flops();

// Multiply-adds of float32 by all threads, 1e9 operations per second: the median of a few turns.
double measure_compute_peak(int threads);

}  // namespace engram::tools::bench

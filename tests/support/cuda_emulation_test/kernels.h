// Kernels that use what a grid offers, each with the function that runs it on a new stream and
// waits. One object file is made by nvcc, one by g++ with the emulation; the same test runs both.
#pragma once

#include <cstdint>
#include <vector>

namespace engram::testing {

// False where there is no GPU to run on, and says so.
bool can_run_kernels();

// One sum per row, by warp shuffles and shared memory.  x [rows, cols]
std::vector<float> row_sums(const std::vector<float>& x, int64_t rows, int64_t cols, int threads);
// Each block writes its threads' numbers to dynamic shared memory and reads them backwards, with or
// without a barrier between. [blocks * threads]
std::vector<int> reversed(int blocks, int threads, bool barrier);
// A block's static shared memory that nobody wrote, then the same after it was written.
std::vector<float> unwritten_then_written();
// How often each value occurs, by atomics from several blocks.
std::vector<unsigned> histogram(const std::vector<unsigned>& values, unsigned bins);
// Per lane: shfl, shfl_up, shfl_down, shfl_xor of 10 * lane within groups of 8; ballot of odd
// lanes; any and all. [32 * 7]
std::vector<int> warp_operations();
// A kernel on one stream polls a flag that a copy on another stream sets; what it reads then.
int value_behind_flag(int value);
// Work on two streams in the order that events demand.
std::vector<int> ordered_by_events(int rounds);
// Where each thread of a three-dimensional grid is: its rank counted from the indexes.
std::vector<unsigned> ranks(unsigned x, unsigned y, unsigned z);

}  // namespace engram::testing

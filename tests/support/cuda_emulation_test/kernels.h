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

// a b by one warp's tensor cores, in bf16.  a [16, 16], b [16, 8]; b lies in shared memory as it is
// (transposed while it is loaded) or as its transpose.
std::vector<float> matrix_product(
    const std::vector<float>& a, const std::vector<float>& b, bool transpose_b);
// A warp copies 16 bytes per lane to shared memory, then, as a second group, the next 16 of each
// even lane and zeros for the others.  in [256]; [256]: the first group, after a wait for it alone
// or after none, then the second group after a wait for all.
std::vector<int> asynchronous_copies(const std::vector<int>& in, bool wait);

}  // namespace engram::testing

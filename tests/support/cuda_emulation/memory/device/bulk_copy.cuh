// Bulk copies under emulation; see the header of this name in memory/device. The bytes arrive, from
// what is at their source then, when a thread finds the phase over that it waits for; until then
// their place holds 0xff bytes. So who does not wait sees that, and whose place is read or whose
// source is overwritten too late. What hardware leaves undefined ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace engram::memory::cuda {

struct alignas(8) CopyBarrier {
  uint64_t state;  // the number of its EmulatedBarrier
};

}  // namespace engram::memory::cuda

namespace cuda_emulation {

struct BulkCopy {
  void* to;
  const void* from;
  unsigned bytes;
};

struct EmulatedBarrier {
  uint64_t number = 0;
  unsigned arrivals = 0;  // of a phase
  unsigned missing = 0;   // of the present one
  unsigned phase = 0;
  uint64_t expected = 0;
  uint64_t started = 0;
  std::vector<BulkCopy> copies = {};

  // Ends the phase if it is over.
  bool end_phase() {
    if (missing > 0 || started < expected) return false;
    for (const BulkCopy& copy : copies) std::memcpy(copy.to, copy.from, copy.bytes);
    copies.clear();
    expected = started = 0;
    missing = arrivals;
    ++phase;
    return true;
  }
};

[[noreturn]] inline void report_barrier(const char* what) {
  std::fprintf(stderr, "cuda emulation: %s\n", what);
  std::abort();
}

// Of this OS thread's blocks, by where they lie.
inline std::map<const void*, EmulatedBarrier>& barriers() {
  thread_local std::map<const void*, EmulatedBarrier> all;
  return all;
}

inline EmulatedBarrier& barrier_at(const engram::memory::cuda::CopyBarrier* barrier) {
  const auto found = barriers().find(barrier);
  if (found == barriers().end() || found->second.number != barrier->state) {
    report_barrier("a barrier of copies is used that nobody made");
  }
  return found->second;
}

}  // namespace cuda_emulation

namespace engram::memory::cuda {

inline void init_barrier(CopyBarrier* barrier, unsigned arrivals) {
  thread_local uint64_t made = 0;
  cuda_emulation::EmulatedBarrier& state = cuda_emulation::barriers()[barrier];
  if (!state.copies.empty()) {
    cuda_emulation::report_barrier("a block ended with bulk copies on their way");
  }
  state = {.number = ++made, .arrivals = arrivals, .missing = arrivals};
  barrier->state = state.number;
}

inline void arrive_expecting(CopyBarrier* barrier, unsigned bytes) {
  cuda_emulation::EmulatedBarrier& state = cuda_emulation::barrier_at(barrier);
  if (state.missing == 0 && !state.end_phase()) {
    cuda_emulation::report_barrier("a barrier of copies gets an arrival too many");
  }
  --state.missing;
  state.expected += bytes;
}

inline void bulk_copy(void* to_shared, const void* from, unsigned bytes, CopyBarrier* barrier) {
  if (reinterpret_cast<uintptr_t>(to_shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0) {
    cuda_emulation::report_barrier("a bulk copy is not 16-byte aligned");
  }
  cuda_emulation::EmulatedBarrier& state = cuda_emulation::barrier_at(barrier);
  std::memset(to_shared, 0xff, bytes);
  state.copies.push_back({to_shared, from, bytes});
  state.started += bytes;
  if (state.missing == 0 && state.started > state.expected) {
    cuda_emulation::report_barrier("a bulk copy brings more bytes than its phase expects");
  }
}

inline void wait_for_phase(CopyBarrier* barrier, unsigned phase) {
  constexpr int kPatience = 100000;  // turns of the others
  for (int turn = 0; turn < kPatience; ++turn) {
    cuda_emulation::EmulatedBarrier& state = cuda_emulation::barrier_at(barrier);
    // A GPU compares the last bit only: who comes a phase late waits for another one.
    if ((state.phase & 1u) != (phase & 1u) || state.end_phase()) return;
    cuda_emulation::give_way();
  }
  cuda_emulation::report_barrier("a barrier of copies waits without end");
}

}  // namespace engram::memory::cuda

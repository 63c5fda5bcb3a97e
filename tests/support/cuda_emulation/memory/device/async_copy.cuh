// Asynchronous copies under emulation; see the header of this name in memory/device. A copy is
// made when its thread waits for it and not before, from what is there then; until then its place
// holds 0xff bytes. So who does not wait sees it, and whose data is overwritten too early.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace cuda_emulation {

struct AsyncCopy {
  void* to;
  const void* from;  // null: zeros
};

// One thread's groups, the oldest first; the last one is not yet committed.
using CopyGroups = std::deque<std::vector<AsyncCopy>>;

inline CopyGroups& copy_groups() {
  thread_local std::vector<CopyGroups> of_threads(1024);
  const unsigned rank = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  CopyGroups& groups = of_threads[rank];
  if (groups.empty()) groups.emplace_back();
  return groups;
}

}  // namespace cuda_emulation

namespace engram::memory::cuda {

inline void copy_16_async(void* to_shared, const void* from, bool there) {
  if (reinterpret_cast<uintptr_t>(to_shared) % 16 != 0 ||
      (there && reinterpret_cast<uintptr_t>(from) % 16 != 0)) {
    std::fputs("cuda emulation: an asynchronous copy is not 16-byte aligned\n", stderr);
    std::abort();
  }
  std::memset(to_shared, 0xff, 16);
  cuda_emulation::copy_groups().back().push_back({to_shared, there ? from : nullptr});
}

inline void commit_copies() {
  cuda_emulation::copy_groups().emplace_back();
}

template <int kPending>
void wait_for_copies() {
  cuda_emulation::CopyGroups& groups = cuda_emulation::copy_groups();
  while (groups.size() > static_cast<std::size_t>(kPending) + 1) {
    for (const cuda_emulation::AsyncCopy& copy : groups.front()) {
      if (copy.from == nullptr) std::memset(copy.to, 0, 16);
      if (copy.from != nullptr) std::memcpy(copy.to, copy.from, 16);
    }
    groups.pop_front();
  }
}

}  // namespace engram::memory::cuda

// Start-up work on a few threads: reading files is limited by latency as much as by bandwidth.
#pragma once

#include <cstdint>
#include <functional>

#include "memory/base/status.h"

namespace engram::memory {

constexpr int64_t kLoadChunkBytes = int64_t{4} << 20;

// Calls job(i, staging) once for each i in [0, jobs), on a few threads; `staging` is the thread's
// own array of kLoadChunkBytes or, if that is more, `staging_bytes` bytes. Stops at the first
// error and returns it.
Status run_jobs(
    int64_t jobs,
    int64_t staging_bytes,
    const std::function<Status(int64_t job, void* staging)>& job);

}  // namespace engram::memory

#include "memory/io/parallel_load.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "memory/device/device_cpu.h"

namespace engram::memory {

Status run_jobs(
    int64_t jobs,
    int64_t staging_bytes,
    const std::function<Status(int64_t job, void* staging)>& job) {
  constexpr int64_t kMaxThreads = 16;
  std::atomic<int64_t> next = 0;
  std::mutex mu;
  Status first_error;  // guarded by mu
  const auto work = [&] {
    std::vector<char> staging(static_cast<size_t>(std::max(kLoadChunkBytes, staging_bytes)));
    for (int64_t i = next++; i < jobs; i = next++) {
      Status status = job(i, staging.data());
      if (status.ok()) continue;
      next = jobs;
      const std::lock_guard lock(mu);
      if (first_error.ok()) first_error = std::move(status);
    }
  };
  // Twice the cores, since a thread that reads mostly waits.
  const int64_t threads = std::min({jobs, kMaxThreads, int64_t{2} * usable_cores()});
  std::vector<std::thread> others;
  try {
    for (int64_t t = 1; t < threads; ++t) others.emplace_back(work);
  } catch (const std::system_error&) {
    // The process may not have more threads; those there are will do.
  }
  work();
  for (std::thread& thread : others) thread.join();
  return first_error;
}

}  // namespace engram::memory

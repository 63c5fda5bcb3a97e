#include "memory/io/parallel_load.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

namespace engram::memory {
namespace {

TEST_CASE("every job runs once, with staging of its thread", "[parallel_load]") {
  for (const int64_t jobs : {0, 1, 2, 1000}) {
    CAPTURE(jobs);
    std::vector<std::atomic<int>> runs(static_cast<size_t>(jobs));
    std::atomic<int> torn = 0;
    const int64_t bytes = kLoadChunkBytes + 100;
    const Status status = run_jobs(jobs, bytes, [&](int64_t job, void* staging) -> Status {
      ++runs[static_cast<size_t>(job)];
      char* ends[] = {static_cast<char*>(staging), static_cast<char*>(staging) + bytes - 8};
      for (char* end : ends) std::memcpy(end, &job, 8);
      for (const char* end : ends) torn += std::memcmp(end, &job, 8) != 0;
      return {};
    });
    CHECK(status.ok());
    CHECK(torn == 0);
    for (const std::atomic<int>& count : runs) CHECK(count == 1);
  }
}

TEST_CASE("the first error stops the rest", "[parallel_load]") {
  std::atomic<int64_t> runs = 0;
  const Status status = run_jobs(1000000, 0, [&](int64_t job, void*) -> Status {
    ++runs;
    return job == 10 ? data_loss("job 10") : Status();
  });
  CHECK(status.code() == Code::kDataLoss);
  CHECK(status.message() == "job 10");
  CHECK(runs < 1000000);
}

}  // namespace
}  // namespace engram::memory

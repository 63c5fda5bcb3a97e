// What the emulation finds that a GPU keeps to itself.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <csignal>
#include <functional>
#include <string>

#include "engine/ops/cuda/async_copy.cuh"
#include "engine/ops/cuda/in_turn.cuh"
#include "engine/ops/cuda/mma.cuh"
#include "engine/ops/cuda/shared_memory.cuh"
#include "memory/device/bulk_copy.cuh"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/cuda_emulation_test/kernels.h"

namespace engram::testing {
namespace {

using cuda_emulation::Order;
using engine::cuda::dynamic_shared;

// What a child process printed before the emulation, or a sanitizer, ended it; empty: it lived.
std::string last_words(const std::function<void()>& work) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);  // Catch would report this death as its own
    work();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  ssize_t count = 0;
  while ((count = read(ends[0], buffer, sizeof(buffer))) > 0) {
    text.append(buffer, static_cast<size_t>(count));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status == 0) return {};
  return text;
}

std::string last_words_of_grid(unsigned threads, const std::function<void()>& kernel) {
  return last_words([&] { cuda_emulation::run_grid({{2}, {threads}, 64}, kernel); });
}

class InOrder {
 public:
  InOrder(Order order, uint64_t seed) { cuda_emulation::set_order(order, seed); }
  ~InOrder() { cuda_emulation::set_order(Order::kForward, 0); }
};

TEST_CASE("shared memory nobody wrote is not a number, in every block", "[emulation]") {
  const std::vector<float> out = unwritten_then_written();
  for (size_t block = 0; block < 3; ++block) {
    CHECK(std::isnan(out[2 * block]));
    CHECK(out[2 * block + 1] == 1.f + static_cast<float>(block));
  }
}

TEST_CASE("a missing barrier shows as a wrong value in every order", "[emulation]") {
  for (const Order order : {Order::kForward, Order::kReverse, Order::kShuffled}) {
    const InOrder in_order(order, 5);
    CAPTURE(static_cast<int>(order));
    CHECK(reversed(2, 64, true) != reversed(2, 64, false));
  }
}

TEST_CASE("a warp's barrier does not stand for the block's", "[emulation]") {
  for (const Order order : {Order::kForward, Order::kReverse}) {
    const InOrder in_order(order, 0);
    int missed = 0;
    cuda_emulation::run_grid({{1}, {64}, 64 * sizeof(int)}, [&] {
      int* numbers = dynamic_shared<int>();
      numbers[threadIdx.x] = 1;
      __syncwarp();
      if (numbers[63 - threadIdx.x] != 1) ++missed;
    });
    CHECK(missed == 32);
  }
}

TEST_CASE("an asynchronous copy that nobody waits for has not arrived", "[emulation]") {
  const std::vector<int> out = asynchronous_copies(std::vector<int>(256, 7), false);
  for (size_t i = 0; i < 128; ++i) CHECK(out[i] == -1);
  CHECK(out[128] == 7);
}

TEST_CASE("a matrix row or a copy across 16-byte boundaries is reported", "[emulation]") {
  const std::string row = last_words_of_grid(32, [] {
    uint32_t words[4];
    engine::cuda::load_matrices(dynamic_shared<char>() + 4, words);
  });
  CHECK(row.find("matrix row is not 16-byte aligned") != std::string::npos);
  const std::string copy = last_words_of_grid(
      32, [] { engine::cuda::copy_16_async(dynamic_shared<char>() + 4, nullptr, false); });
  CHECK(copy.find("copy is not 16-byte aligned") != std::string::npos);
}

// What is wrong with the bulk copy of a block's first thread.
enum class BulkFault {
  kNone,
  kUnaligned,
  kNoBarrier,
  kTooManyBytes,
  kTooFewBytes,
  kEarlyRead,
};

void bulk_copy_with(BulkFault fault, const int* from, int* read) {
  using memory::cuda::CopyBarrier;
  CopyBarrier& barrier = memory::cuda::shared<CopyBarrier, struct Arrived>();
  int* numbers = dynamic_shared<int>();
  if (threadIdx.x == 0) {
    if (fault != BulkFault::kNoBarrier) memory::cuda::init_barrier(&barrier, 1);
    const unsigned bytes = fault == BulkFault::kTooFewBytes    ? 64
                           : fault == BulkFault::kTooManyBytes ? 16
                                                               : 32;
    memory::cuda::arrive_expecting(&barrier, bytes);
    memory::cuda::bulk_copy(numbers + (fault == BulkFault::kUnaligned ? 1 : 0), from, 32, &barrier);
  }
  __syncthreads();
  if (fault != BulkFault::kEarlyRead) memory::cuda::wait_for_phase(&barrier, 0);
  if (threadIdx.x < 8) read[threadIdx.x] = numbers[threadIdx.x];
  if (fault == BulkFault::kEarlyRead && threadIdx.x == 31)
    memory::cuda::wait_for_phase(&barrier, 0);
}

TEST_CASE("bulk copies arrive for those who wait", "[emulation]") {
  alignas(16) const int from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  int read[8] = {};
  cuda_emulation::run_grid({{2}, {32}, 64}, [&] { bulk_copy_with(BulkFault::kNone, from, read); });
  CHECK(std::equal(from, from + 8, read));
  cuda_emulation::run_grid(
      {{1}, {32}, 64}, [&] { bulk_copy_with(BulkFault::kEarlyRead, from, read); });
  CHECK(std::count(read, read + 8, -1) == 8);
}

TEST_CASE("what a bulk copy must not do is reported", "[emulation]") {
  alignas(16) static const int from[16] = {};
  static int read[8];
  const auto words = [](BulkFault fault) {
    return last_words_of_grid(32, [fault] { bulk_copy_with(fault, from, read); });
  };
  CHECK(words(BulkFault::kUnaligned).find("not 16-byte aligned") != std::string::npos);
  CHECK(words(BulkFault::kNoBarrier).find("that nobody made") != std::string::npos);
  CHECK(words(BulkFault::kTooManyBytes).find("more bytes than") != std::string::npos);
  CHECK(words(BulkFault::kTooFewBytes).find("waits without end") != std::string::npos);
  CHECK(words(BulkFault::kNone).empty());
  const std::string left = last_words_of_grid(32, [] {
    using memory::cuda::CopyBarrier;
    static CopyBarrier barrier;
    memory::cuda::init_barrier(&barrier, 1);
    memory::cuda::bulk_copy(dynamic_shared<int>(), from, 16, &barrier);
  });
  CHECK(left.find("on their way") != std::string::npos);
}

TEST_CASE("a barrier of copies goes from phase to phase", "[emulation]") {
  alignas(16) int from[4] = {};
  int sum = 0;
  cuda_emulation::run_grid({{1}, {32}, 64}, [&] {
    using memory::cuda::CopyBarrier;
    CopyBarrier& barrier = memory::cuda::shared<CopyBarrier, struct Phases>();
    int* numbers = dynamic_shared<int>();
    if (threadIdx.x == 0) memory::cuda::init_barrier(&barrier, 1);
    for (unsigned phase = 0; phase < 5; ++phase) {
      __syncthreads();
      if (threadIdx.x == 0) {
        from[0] = static_cast<int>(10 + phase);
        memory::cuda::arrive_expecting(&barrier, 16);
        memory::cuda::bulk_copy(numbers, from, 16, &barrier);
      }
      memory::cuda::wait_for_phase(&barrier, phase);
      if (threadIdx.x == 31) sum += numbers[0];
    }
  });
  CHECK(sum == 10 + 11 + 12 + 13 + 14);
}

TEST_CASE("a barrier that some threads pass by is reported", "[emulation]") {
  const std::string words = last_words_of_grid(64, [] {
    if (threadIdx.x < 40) __syncthreads();
  });
  CHECK(words.find("threads wait without end") != std::string::npos);
  CHECK(words.find("is at the barrier of") != std::string::npos);
}

TEST_CASE("barriers in two branches are reported with both lines", "[emulation]") {
  const std::string words = last_words_of_grid(64, [] {
    if (threadIdx.x % 2 == 0) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
  CHECK(words.find("divergent barrier") != std::string::npos);
}

TEST_CASE("a warp operation without all lanes of its mask is reported", "[emulation]") {
  const std::string absent = last_words_of_grid(32, [] {
    if (threadIdx.x < 16) {
      static_cast<void>(__shfl_sync(0xffffffffu, 1, 0));
    } else {
      __syncthreads();
    }
  });
  CHECK(absent.find("mask 0xffffffff") != std::string::npos);
  const std::string stranger =
      last_words_of_grid(32, [] { static_cast<void>(__any_sync(0x0000ffffu, 1)); });
  CHECK(stranger.find("is not in the mask") != std::string::npos);
}

TEST_CASE("a kernel that may start early and does not wait is reported", "[emulation]") {
  const auto words_of = [](const std::function<void()>& kernel) {
    return last_words([&] { cuda_emulation::run_grid({{2}, {64}, 0, true}, kernel); });
  };
  CHECK(words_of([] { engine::cuda::wait_for_turn(); }).empty());
  const std::string words = words_of([] {
    if (threadIdx.x != 40) engine::cuda::wait_for_turn();
  });
  CAPTURE(words);
  CHECK(words.find("thread (40,0,0) ended and never waited") != std::string::npos);
  CHECK(last_words_of_grid(64, [] {}).empty());
}

TEST_CASE("half warps may meet on their own", "[emulation]") {
  int sums[2] = {0, 0};
  cuda_emulation::run_grid({{1}, {32}, 0}, [&] {
    const bool low = threadIdx.x < 16;
    const unsigned mask = low ? 0x0000ffffu : 0xffff0000u;
    int sum = static_cast<int>(threadIdx.x);
    if (low) {
      for (int lanes = 8; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(mask, sum, lanes);
    } else {
      for (int lanes = 8; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(mask, sum, lanes);
    }
    if (threadIdx.x % 16 == 0) sums[threadIdx.x / 16] = sum;
  });
  CHECK(sums[0] == 120);
  CHECK(sums[1] == 376);
}

TEST_CASE("a grid that no GPU starts is reported", "[emulation]") {
  CHECK(last_words_of_grid(1025, [] {}).find("cannot be launched") != std::string::npos);
}

#if defined(__SANITIZE_ADDRESS__)
TEST_CASE("an access outside of shared memory is reported", "[emulation]") {
  const std::string words = last_words_of_grid(32, [] { dynamic_shared<int>()[threadIdx.x] = 1; });
  CHECK(words.find("heap-buffer-overflow") != std::string::npos);
}
#endif

}  // namespace
}  // namespace engram::testing

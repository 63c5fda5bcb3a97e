// Verify mode: some of the live lookups, chosen at random and at most so many per second, are done
// again beside the engine and compared bit for bit with what the model was given.
//
// The engine's thread chooses, the side stream copies what it has staged, a thread of lowest
// priority checks. Nobody waits for a check.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "engine/sched/row_check.h"
#include "memory/table/table_set.h"

namespace engram::engine {

struct VerifierStats {
  int64_t checked = 0;
  int64_t wrong = 0;
  int64_t unchecked = 0;  // the source could not be read, or checks were too slow
};

class RowVerifier {
 public:
  struct Bad {
    size_t table = 0;
    int64_t row = 0;
    uint64_t request = 0;
    const memory::TableSet* tables = nullptr;  // to compare with; it may be gone
    memory::Status status;                     // DATA_LOSS
  };
  // `on_bad` is called by the verifier's thread. The token map outlives the object.
  RowVerifier(
      double rows_per_second,
      uint64_t seed,
      const TokenMap& token_map,
      std::function<void(const Bad&)> on_bad);
  ~RowVerifier();  // what is not checked yet is dropped

  // Engine thread. The tables that samples chosen from now on are compared with; shared with the
  // samples on their way.
  void use_tables(std::shared_ptr<const memory::TableSet> tables) { tables_ = std::move(tables); }
  // Engine thread: how many lookups of a fetch to sample now, and a random number below `bound`.
  int64_t take(int64_t lookups);
  int64_t below(int64_t bound);
  const std::shared_ptr<const memory::TableSet>& tables() const { return tables_; }

  // Any thread: queues a sample with what was staged.
  void check(RowSample sample, std::shared_ptr<const memory::TableSet> tables);

  VerifierStats stats() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Queued {
    RowSample sample;
    std::shared_ptr<const memory::TableSet> tables;
  };

  void work();

  // Constant.
  const double rate_;
  const double most_;  // tokens the bucket holds
  const TokenMap& token_map_;
  const std::function<void(const Bad&)> on_bad_;

  // Engine thread.
  std::mt19937_64 random_;
  double bucket_ = 0;
  Clock::time_point filled_ = Clock::now();
  std::shared_ptr<const memory::TableSet> tables_;

  // Guarded by mu_.
  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Queued> queue_;
  bool stopping_ = false;

  // Atomic: counted by the verifier's thread, read by any.
  std::atomic<int64_t> checked_{0};
  std::atomic<int64_t> wrong_{0};
  std::atomic<int64_t> unchecked_{0};

  std::thread thread_;  // last: starts when the rest is there
};

}  // namespace engram::engine

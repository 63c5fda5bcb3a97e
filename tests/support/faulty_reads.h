// A ReadQueue that does what disks do on bad days, by seed: reads that come in pieces, end early,
// fail with EIO, bring flipped bits, or take their time. For tests of what reads through a queue.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/io/read_queue.h"

namespace engram::tests {

struct Faults {
  uint64_t seed = 1;
  // Probabilities per read.
  double pieces = 0.;  // two reads instead of one: harmless
  double ends = 0.;    // DATA_LOSS after some blocks, the rest untouched
  double error = 0.;   // INTERNAL as of EIO, nothing read
  double flip = 0.;    // one bit is wrong
  // Only reads that overlap [from, to) are hurt.
  int64_t from = 0;
  int64_t to = std::numeric_limits<int64_t>::max();
  int delay_us_most = 0;  // each answer is held back for 0 to this
};

class FaultyReads : public memory::ReadQueue {
 public:
  FaultyReads(std::unique_ptr<memory::ReadQueue> inner, const Faults& faults)
      : inner_(std::move(inner)), faults_(faults), random_(faults.seed) {}

  std::string name() const override { return "faulty " + inner_->name(); }
  int depth() const override { return inner_->depth(); }

 private:
  using Clock = std::chrono::steady_clock;

  struct Pending {
    memory::ReadRequest request;
    int parts = 1;
    memory::Status status;
    Clock::time_point ready;
  };

  bool hits(double probability) {
    return std::uniform_real_distribution<double>(0., 1.)(random_) < probability;
  }
  int64_t draw(int64_t below) {
    return std::uniform_int_distribution<int64_t>(0, below - 1)(random_);
  }

  void do_submit(const memory::ReadRequest& request) override {
    const uint64_t id = next_id_++;
    Pending& pending = pending_[id];
    pending.request = request;
    const int64_t end = request.offset + request.bytes;
    const bool in_range = request.offset < faults_.to && end > faults_.from;
    const int64_t block = request.file->alignment();
    const int64_t blocks = request.bytes / block;
    memory::ReadRequest inner = request;
    inner.tag = id;
    // Drawn in any case: what one read suffers does not depend on the range.
    const bool error = hits(faults_.error);
    const bool ends = hits(faults_.ends);
    const bool pieces = hits(faults_.pieces);
    if (error && in_range) {
      pending.status = memory::internal(place(request) + " failed: Input/output error");
      finished_.push_back(id);
      return;
    }
    if (ends && in_range) {
      inner.bytes = draw(blocks) * block;
      pending.status = memory::data_loss(place(request) + " ended early");
      if (inner.bytes == 0) {
        finished_.push_back(id);
      } else {
        inner_->submit(inner);
      }
      return;
    }
    if (pieces && blocks > 1) {
      memory::ReadRequest rest = inner;
      inner.bytes = (1 + draw(blocks - 1)) * block;
      rest.offset += inner.bytes;
      rest.bytes -= inner.bytes;
      rest.to = static_cast<char*>(rest.to) + inner.bytes;
      pending.parts = 2;
      inner_->submit(rest);
    }
    inner_->submit(inner);
  }

  void do_wait(int64_t least, std::vector<memory::ReadDone>* done) override {
    int64_t reported = 0;
    while (true) {
      collect(least > reported + static_cast<int64_t>(finished_.size() + held_.size()));
      const Clock::time_point now = Clock::now();
      for (size_t i = 0; i < held_.size();) {
        const Pending& pending = pending_[held_[i]];
        if (pending.ready > now) {
          ++i;
          continue;
        }
        done->push_back({.tag = pending.request.tag, .status = pending.status});
        ++reported;
        pending_.erase(held_[i]);
        held_.erase(held_.begin() + static_cast<int64_t>(i));
      }
      if (reported >= least) return;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  // Takes what the inner queue has, waiting for one answer if it must, and hurts it.
  void collect(bool must) {
    std::vector<memory::ReadDone> answers;
    inner_->wait(must ? 1 : 0, &answers);
    for (const memory::ReadDone& answer : answers) {
      Pending& pending = pending_[answer.tag];
      if (!answer.status.ok()) pending.status = answer.status;
      if (--pending.parts == 0) finished_.push_back(answer.tag);
    }
    for (const uint64_t id : finished_) {
      Pending& pending = pending_[id];
      const memory::ReadRequest& request = pending.request;
      if (pending.status.ok() && hits(faults_.flip)) flip(request);
      const int64_t delay = faults_.delay_us_most > 0 ? draw(faults_.delay_us_most + 1) : 0;
      pending.ready = Clock::now() + std::chrono::microseconds(delay);
      held_.push_back(id);
    }
    finished_.clear();
  }

  void flip(const memory::ReadRequest& request) {
    const int64_t from = std::max<int64_t>(faults_.from - request.offset, 0);
    const int64_t to = std::min(faults_.to - request.offset, request.bytes);
    if (from >= to) return;
    static_cast<uint8_t*>(request.to)[from + draw(to - from)] ^=
        static_cast<uint8_t>(1u << draw(8));
  }

  static std::string place(const memory::ReadRequest& request) {
    return request.file->path() + ": reading at byte " + std::to_string(request.offset);
  }

  const std::unique_ptr<memory::ReadQueue> inner_;
  const Faults faults_;
  std::mt19937_64 random_;
  uint64_t next_id_ = 0;
  std::unordered_map<uint64_t, Pending> pending_;
  std::vector<uint64_t> finished_;  // all parts are back
  std::vector<uint64_t> held_;      // answered when their time has come
};

// A real queue whose reads suffer. That it can be had is a condition of the test.
inline std::unique_ptr<memory::ReadQueue> faulty_queue(
    const memory::ReadQueueOptions& options, const Faults& faults) {
  return std::make_unique<FaultyReads>(memory::make_read_queue(options).value(), faults);
}

}  // namespace engram::tests

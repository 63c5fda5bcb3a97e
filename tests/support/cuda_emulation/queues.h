// What streams and events are in the emulation, and what a capture records of them.
//
// A capture belongs to the stream and the thread that began it; a stream that waits for an event
// recorded in it takes part too. Calls that a GPU refuses meanwhile are refused here, and the
// capture is worth nothing then.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace cuda_emulation {

// One piece of recorded work. `after`: what it waits for, its own stream's first.
struct Node {
  std::function<void()> work = {};
  Mark* event = nullptr;  // waited for instead: its last record when the graph is launched
  bool kernel = false;
  bool mark = false;
  std::vector<size_t> after = {};
};

class Capture {
 public:
  explicit Capture(Queue* origin) : origin_(origin) {}

  Queue* origin() const { return origin_; }
  bool broken() const { return broken_; }
  void break_off() { broken_ = true; }
  bool takes(Queue* stream) const { return last_.contains(stream); }
  // `stream` goes on after these nodes too.
  void join(Queue* stream, const std::vector<size_t>& nodes);
  // What `stream` recorded last.
  const std::vector<size_t>& last(Queue* stream) { return last_[stream]; }
  void add(Queue* stream, Node node);
  // Empty with `unjoined` when a branch does not lead back to the origin; else the nodes in an
  // order in which they may run: a branch as late as whoever waits for it allows, so that a wait
  // that is missing shows.
  std::vector<Node> end(bool* unjoined);
  std::vector<Queue*> streams() const;

 private:
  void visit(size_t node, std::vector<bool>& seen, std::vector<size_t>& order) const;

  Queue* origin_;
  bool broken_ = false;
  std::vector<Node> nodes_;
  std::map<Queue*, std::vector<size_t>> last_;
};

// How often an event was recorded, and which of these records has been reached.
class Mark {
 public:
  uint64_t record() {
    const std::lock_guard lock(mu_);
    captured_.reset();
    return ++recorded_;
  }
  uint64_t recorded() {
    const std::lock_guard lock(mu_);
    return recorded_;
  }
  void reach(uint64_t record) {
    const std::lock_guard lock(mu_);
    reached_ = std::max(reached_, record);
    at_ = std::chrono::steady_clock::now();
    changed_.notify_all();
  }
  void wait_for(uint64_t record) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return reached_ >= record; });
  }
  bool done() {
    const std::lock_guard lock(mu_);
    return reached_ >= recorded_;
  }
  std::chrono::steady_clock::time_point at() {
    const std::lock_guard lock(mu_);
    return at_;
  }
  // Recorded in a capture, and not anywhere else since.
  void set_captured(std::shared_ptr<Capture> capture, std::vector<size_t> nodes) {
    const std::lock_guard lock(mu_);
    captured_ = std::move(capture);
    nodes_ = std::move(nodes);
  }
  std::shared_ptr<Capture> captured(std::vector<size_t>* nodes) {
    const std::lock_guard lock(mu_);
    *nodes = nodes_;
    return captured_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  // Guarded by mu_.
  uint64_t recorded_ = 0;
  uint64_t reached_ = 0;
  std::chrono::steady_clock::time_point at_;  // of the last reach()
  std::shared_ptr<Capture> captured_;
  std::vector<size_t> nodes_;
};

// Pieces of work and marks of all streams that are not done.
std::atomic<int64_t>& pending_work();

class Queue {
 public:
  Queue() : thread_([this] { run(); }) {}
  ~Queue() {
    synchronize();
    {
      const std::lock_guard lock(mu_);
      quit_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  void push(std::function<void()> work) {
    ++pending_work();
    const std::lock_guard lock(mu_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  void synchronize() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return work_.empty() && !running_; });
  }

  // Of the thread that uses the stream: the capture it takes part in, or null.
  std::shared_ptr<Capture> capture;

 private:
  void run() {
    std::unique_lock lock(mu_);
    while (true) {
      changed_.wait(lock, [this] { return quit_ || !work_.empty(); });
      if (work_.empty()) return;
      const std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      running_ = true;
      lock.unlock();
      work();
      --pending_work();
      lock.lock();
      running_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // guarded by mu_
  bool running_ = false;                    // guarded by mu_
  bool quit_ = false;                       // guarded by mu_
  std::thread thread_;                      // last: it uses the others
};

// The error of a call that may not be made by a thread that captures, which breaks the capture;
// cudaSuccess for other threads.
cudaError_t refuse_while_capturing();
// The same, or what a broken device answers.
cudaError_t refusal();

}  // namespace cuda_emulation

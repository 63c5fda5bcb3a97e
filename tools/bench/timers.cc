#include "tools/bench/timers.h"

#include <algorithm>
#include <utility>

namespace engram::tools::bench {
namespace {

constexpr auto kLater = [](const auto& a, const auto& b) { return a.moment > b.moment; };

}  // namespace

Timers::Timers() : thread_([this] { loop(); }) {}

Timers::~Timers() {
  {
    const std::lock_guard lock(mu_);
    hurry_ = true;
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Timers::add(RunClock::time_point moment, std::function<void()> call) {
  bool first;
  {
    const std::lock_guard lock(mu_);
    first = heap_.empty() || moment < heap_.front().moment;
    heap_.push_back({moment, std::move(call)});
    std::push_heap(heap_.begin(), heap_.end(), kLater);
  }
  if (first) changed_.notify_one();
}

void Timers::hurry() {
  {
    const std::lock_guard lock(mu_);
    hurry_ = true;
  }
  changed_.notify_one();
}

void Timers::loop() {
  std::unique_lock lock(mu_);
  while (true) {
    if (heap_.empty()) {
      if (stopping_) return;
      changed_.wait(lock);
      continue;
    }
    const RunClock::time_point moment = heap_.front().moment;
    if (!hurry_ && RunClock::now() < moment) {
      changed_.wait_until(lock, moment);
      continue;
    }
    std::pop_heap(heap_.begin(), heap_.end(), kLater);
    const std::function<void()> call = std::move(heap_.back().call);
    heap_.pop_back();
    lock.unlock();
    call();
    lock.lock();
  }
}

}  // namespace engram::tools::bench

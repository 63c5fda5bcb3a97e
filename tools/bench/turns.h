// The sends of a plan in their order, taken by more than one thread: each by the one that is there
// first. A thread that the machine holds up, or that is still busy with the send before, delays no
// other. What is sent is made before its time. Any thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>

namespace engram::tools::bench {

template <typename T>
class Turns {
 public:
  struct Item {
    T what;
    double at_s = 0;
  };
  struct Turn {
    int64_t number = 0;
    double at_s = 0;
  };

  // `make` is called for one item after the other, by one thread at a time; none: that was the
  // last.
  explicit Turns(std::function<std::optional<Item>()> make) : make_(std::move(make)) {}

  // The first one that is not taken; blocks while another thread makes it. None: all are taken.
  std::optional<Turn> next() {
    std::unique_lock lock(mu_);
    while (true) {
      fill(&lock, 1);
      if (!items_.empty()) return Turn{taken_, items_.front().at_s};
      if (over_) return std::nullopt;
      changed_.wait(lock);
    }
  }

  // None when another thread took it. `on_taken` is called before any later one can be taken.
  template <typename F>
  std::optional<T> take(const Turn& turn, F&& on_taken) {
    const std::lock_guard lock(mu_);
    if (turn.number != taken_) return std::nullopt;
    ++taken_;
    std::optional<T> what(std::move(items_.front().what));
    items_.pop_front();
    on_taken(*what);
    return what;
  }

  // Makes a few before they are asked for.
  void make_ahead() {
    std::unique_lock lock(mu_);
    fill(&lock, kAhead);
  }

 private:
  static constexpr size_t kAhead = 3;

  void fill(std::unique_lock<std::mutex>* lock, size_t count) {
    while (!making_ && !over_ && items_.size() < count) {
      making_ = true;
      lock->unlock();
      std::optional<Item> item = make_();
      lock->lock();
      making_ = false;
      if (item) {
        items_.push_back(std::move(*item));
      } else {
        over_ = true;
      }
      changed_.notify_all();
    }
  }

  const std::function<std::optional<Item>()> make_;

  // guarded by mu_
  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<Item> items_;  // the first is turn number taken_
  int64_t taken_ = 0;
  bool making_ = false;
  bool over_ = false;
};

}  // namespace engram::tools::bench

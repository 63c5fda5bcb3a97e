// One thread that runs small tasks in order. Two of them keep slow things off the threads of gRPC
// and of the engine: one delivers output (a write costs a system call), one tokenizes long texts.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace engram::server {

class Worker {
 public:
  Worker() : thread_([this] { loop(); }) {}
  // Runs what is queued, then stops.
  ~Worker() {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void post(std::function<void()> task) {
    bool was_idle;
    {
      const std::lock_guard lock(mu_);
      was_idle = tasks_.empty();
      tasks_.push_back(std::move(task));
    }
    if (was_idle) wake_.notify_one();
  }

 private:
  void loop() {
    std::deque<std::function<void()>> batch;
    while (true) {
      {
        std::unique_lock lock(mu_);
        wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        batch.swap(tasks_);
      }
      for (std::function<void()>& task : batch) task();
      batch.clear();
    }
  }

  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;  // guarded by mu_
  bool stopping_ = false;                    // guarded by mu_
  std::thread thread_;
};

}  // namespace engram::server

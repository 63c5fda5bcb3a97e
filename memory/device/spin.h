// Waiting without sleeping: short pauses at first, then the core is offered to others each time.
// One thread.
#pragma once

#include <chrono>
#include <thread>

namespace engram::memory {

class Spin {
 public:
  // One step of waiting.
  void pause() {
    if (++steps_ > kPauses) {
      std::this_thread::yield();
      return;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  // One step of waiting; false once `limit` has passed since the first.
  bool again(std::chrono::nanoseconds limit) {
    const std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now();
    if (steps_ == 0) {
      begin_ = now;
    } else if (now - begin_ > limit) {
      return false;
    }
    pause();
    return true;
  }

 private:
  static constexpr int kPauses = 100;  // some microseconds

  int steps_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace engram::memory

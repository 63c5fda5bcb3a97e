// A second stream of traffic over memory while something else is measured: one thread that copies
// all the time, as offloading a key-value cache does.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::tools::bench {

class Contention {
 public:
  // Starts copying between the halves of `bytes` of memory. RESOURCE_EXHAUSTED when there is not so
  // much. REQUIRES: bytes is a multiple of 2^21.
  static memory::Result<std::unique_ptr<Contention>> start(int64_t bytes);
  ~Contention();  // stops

  // Payload copied per second since the start.
  double gbps() const;

 private:
  explicit Contention(memory::Buffer buffer);
  void copy();

  const memory::Buffer buffer_;
  const std::chrono::steady_clock::time_point begin_;
  std::atomic<bool> stop_{false};   // set by the owner, read by the thread
  std::atomic<int64_t> copied_{0};  // bytes, written by the thread
  std::thread thread_;              // last: starts when the rest is there
};

}  // namespace engram::tools::bench

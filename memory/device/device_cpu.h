// The CPU device: each stream is a worker thread with its own FIFO queue, so that a missing event
// wait is a wrong value (or a ThreadSanitizer report) on any machine. Ops of the CPU backend
// enqueue closures and split them over the device's workers.
#pragma once

#include <functional>
#include <memory>

#include "memory/device/device.h"

namespace engram::memory {

// Threads that run the parts of one task at a time. The caller takes part. Between tasks that
// follow each other closely the workers spin, after that they sleep.
class CpuWorkers {
 public:
  explicit CpuWorkers(int threads);  // the caller included
  ~CpuWorkers();
  CpuWorkers(const CpuWorkers&) = delete;
  CpuWorkers& operator=(const CpuWorkers&) = delete;

  int threads() const;
  // Calls part(i) once for each i in [0, parts), spread over the threads by an atomic counter;
  // returns when all are done. One caller at a time; nested or concurrent calls run alone, inline.
  void run(int64_t parts, const std::function<void(int64_t)>& part);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

class CpuStream : public Stream {
 public:
  // Runs `work` after everything enqueued before it.
  virtual void enqueue(std::function<void()> work) = 0;
};

class CpuDevice : public Device {
 public:
  virtual CpuWorkers& workers() = 0;
};

// REQUIRES: the device (stream) was made by make_cpu_device().
CpuDevice& as_cpu(Device& device);
CpuStream& as_cpu(Stream& stream);

// Cores this process may use: the least of affinity mask and cgroup quota, at least 1.
int usable_cores();

}  // namespace engram::memory

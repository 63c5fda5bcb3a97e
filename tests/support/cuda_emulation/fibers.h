// Threads of a block as fibres: each has a stack of its own and runs on the calling OS thread until
// it gives way. Made for grids: a pool runs one function on `count` fibres again and again.
// AddressSanitizer is told about every switch. One OS thread per pool.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace cuda_emulation {

class FiberPool {
 public:
  FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;
  ~FiberPool();

  // At least `count` fibres, none of them started.
  void reserve(size_t count);
  // Gives fibre `index` a new function; it starts with the next resume().
  void start(size_t index, const std::function<void()>* body);
  // Runs fibre `index` until it gives way (true) or its function returned (false).
  bool resume(size_t index);
  // Called inside a fibre: back to the resume() it came from.
  void give_way();

 private:
  struct Fiber;
  void to_fiber(Fiber& fiber);
  void to_scheduler(Fiber& fiber);

  std::vector<std::unique_ptr<Fiber>> fibers_;
  Fiber* running_ = nullptr;
};

}  // namespace cuda_emulation

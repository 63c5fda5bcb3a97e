#include "tests/support/cuda_emulation/fibers.h"

#include <boost/context/stack_context.hpp>
#include <cstdint>
#include <memory>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_emulation {
namespace {

// Room for a kernel's arrays that a GPU would keep in registers and local memory. Sanitizers make
// frames several times larger.
constexpr size_t kStackBytes = size_t{256} << 10;

// Stacks begin at equal distances, where all of them would compete for the same few lines of the
// cache: each fibre begins a little below its stack's end.
constexpr size_t kOffsetBytes = 320;
constexpr size_t kOffsets = 16;

// A stack whose bounds are known; boost frees it when the fibre ends, the pool keeps it instead.
class KeptStack {
 public:
  KeptStack(std::byte* begin, size_t index)
      : begin_(begin), size_(kStackBytes - index % kOffsets * kOffsetBytes) {}
  boost::context::stack_context allocate() {
    boost::context::stack_context context;
    context.size = size_;
    context.sp = begin_ + size_;
    return context;
  }
  void deallocate(boost::context::stack_context&) {}

 private:
  std::byte* begin_;
  size_t size_;
};

}  // namespace

struct FiberPool::Fiber {
  std::unique_ptr<std::byte[]> stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  boost::context::fiber inside;   // where to go on in the fibre; valid while the scheduler runs
  boost::context::fiber outside;  // the scheduler; valid while the fibre runs
  const std::function<void()>* body = nullptr;
  bool running_body = false;
  bool quit = false;
  // The sanitizer's own stacks, and the bounds of the scheduler's.
  void* fake_inside = nullptr;
  void* fake_outside = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_size = 0;
};

FiberPool::FiberPool() = default;

FiberPool::~FiberPool() {
  for (const std::unique_ptr<Fiber>& fiber : fibers_) {
    fiber->quit = true;
    to_fiber(*fiber);
  }
}

void FiberPool::to_fiber(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.fake_outside, fiber.stack.get(), kStackBytes);
#endif
  fiber.inside = std::move(fiber.inside).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_outside, nullptr, nullptr);
#endif
}

void FiberPool::to_scheduler(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.fake_inside, fiber.outside_bottom, fiber.outside_size);
#endif
  fiber.outside = std::move(fiber.outside).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_inside, &fiber.outside_bottom, &fiber.outside_size);
#endif
}

void FiberPool::reserve(size_t count) {
  while (fibers_.size() < count) {
    const size_t index = fibers_.size();
    Fiber* fiber = fibers_.emplace_back(std::make_unique<Fiber>()).get();
    fiber->inside = boost::context::fiber(
        std::allocator_arg, KeptStack(fiber->stack.get(), index),
        [this, fiber](boost::context::fiber&& scheduler) {
          fiber->outside = std::move(scheduler);
#if defined(__SANITIZE_ADDRESS__)
          __sanitizer_finish_switch_fiber(nullptr, &fiber->outside_bottom, &fiber->outside_size);
#endif
          while (!fiber->quit) {
            (*fiber->body)();
            fiber->running_body = false;
            to_scheduler(*fiber);
          }
#if defined(__SANITIZE_ADDRESS__)
          // Null: this stack's shadow is not needed any more.
          __sanitizer_start_switch_fiber(nullptr, fiber->outside_bottom, fiber->outside_size);
#endif
          return std::move(fiber->outside);
        });
  }
}

void FiberPool::start(size_t index, const std::function<void()>* body) {
  fibers_[index]->body = body;
  fibers_[index]->running_body = true;
}

bool FiberPool::resume(size_t index) {
  running_ = fibers_[index].get();
  to_fiber(*running_);
  const bool gave_way = running_->running_body;
  running_ = nullptr;
  return gave_way;
}

void FiberPool::give_way() {
  to_scheduler(*running_);
}

}  // namespace cuda_emulation

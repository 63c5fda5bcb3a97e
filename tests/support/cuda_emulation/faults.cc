// A device that breaks: what runs on it then, and what calls are told.
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "tests/support/cuda_emulation/queues.h"

namespace cuda_emulation {
namespace {

std::mutex mu;
Fault armed{.kernel = {}, .count = 0, .error = cudaSuccess};  // guarded by mu; count 0: none
std::atomic<bool> has_armed{false};
std::atomic<cudaError_t> broken{cudaSuccess};

}  // namespace

void arm(const Fault& fault) {
  const std::lock_guard lock(mu);
  armed = fault;
  has_armed.store(fault.count > 0);
}

void break_device(cudaError_t error) {
  cudaError_t whole = cudaSuccess;
  broken.compare_exchange_strong(whole, error);
}

void repair() {
  arm({.kernel = {}, .count = 0, .error = cudaSuccess});
  broken.store(cudaSuccess);
}

cudaError_t sticky_error() {
  const cudaError_t error = broken.load();
  while (error != cudaSuccess && pending_work().load() > 0) std::this_thread::yield();
  return error;
}

std::atomic<int64_t>& pending_work() {
  static std::atomic<int64_t> pending{0};
  return pending;
}

void run_unless_broken(const std::function<void()>& work) {
  if (broken.load() == cudaSuccess) work();
}

bool survives(const void* kernel) {
  if (!has_armed.load()) return true;
  const std::lock_guard lock(mu);
  const char* name = function_name(kernel);
  const bool meant = name != nullptr && std::strstr(name, armed.kernel.c_str()) != nullptr;
  if (!meant || armed.count == 0 || --armed.count > 0) return true;
  has_armed.store(false);
  break_device(armed.error);
  return false;
}

}  // namespace cuda_emulation

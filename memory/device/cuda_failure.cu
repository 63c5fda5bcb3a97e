#include <cxxabi.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <unordered_map>

#include "memory/device/cuda_failure.h"

namespace engram::memory {
namespace {

struct Health {
  std::atomic<bool> failed = false;  // written with `mu` held
  std::shared_mutex mu;              // shared: by whoever runs host work
  std::string message;               // guarded by mu
};

Health& health() {
  static Health health;
  return health;
}

// What a thread launched last.
enum class Launched : uint8_t { kNothing, kKernel, kGraph };
struct LastLaunch {
  Launched what = Launched::kNothing;
  const char* kernel = nullptr;  // null: without a name
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  std::source_location at;
};

LastLaunch& last_launch() {
  static thread_local LastLaunch last;
  return last;
}

// As the compiler has it; null: not known. A GPU that failed is not asked, hence it is kept.
const char* kernel_name(const void* kernel) {
  static thread_local std::unordered_map<const void*, const char*> names;
  const auto known = names.find(kernel);
  if (known != names.end()) return known->second;
  const char* name = nullptr;
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) return nullptr;
  names.emplace(kernel, name);
  return name;
}

// Without the parameters of a function, whose types are long.
std::string readable(const char* name) {
  if (name == nullptr) return "a kernel";
  const std::unique_ptr<char, void (*)(void*)> demangled(
      abi::__cxa_demangle(name, nullptr, nullptr, nullptr), std::free);
  std::string text = demangled != nullptr ? demangled.get() : name;
  if (text.empty() || text.back() != ')') return text;
  int open = 0;
  size_t at = text.size();
  do {
    --at;
    open += text[at] == ')' ? 1 : text[at] == '(' ? -1 : 0;
  } while (open > 0 && at > 0);
  text.resize(at);
  return text;
}

std::string text_of(const dim3& size) {
  return std::to_string(size.x) + "x" + std::to_string(size.y) + "x" + std::to_string(size.z);
}

std::string text_of(const std::source_location& at) {
  std::string_view file = at.file_name();
  while (file.starts_with("../")) file.remove_prefix(3);  // from where it was built
  return std::string(file) + ":" + std::to_string(at.line());
}

std::string last_launch_text() {
  const LastLaunch& last = last_launch();
  if (last.what == Launched::kNothing) return "";
  if (last.what == Launched::kGraph) {
    return "; last launched: a CUDA graph, at " + text_of(last.at);
  }
  return "; last launched: " + readable(last.kernel) + ", " + text_of(last.blocks) + " blocks of " +
         text_of(last.threads) + " threads, " + std::to_string(last.shared_bytes) +
         " bytes of dynamic shared memory, at " + text_of(last.at);
}

// What the driver says of a call that was wrong, whatever the GPU does.
bool is_bug(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorLaunchOutOfResources:
      return true;
    default:
      return error >= cudaErrorStreamCaptureUnsupported &&
             error <= cudaErrorStreamCaptureWrongThread;
  }
}

}  // namespace

bool cuda_failed() {
  return health().failed.load(std::memory_order_acquire);
}

Status cuda_failure() {
  if (!cuda_failed()) return {};
  Health& h = health();
  const std::shared_lock lock(h.mu);
  return unavailable(h.message);
}

void forget_cuda_failure() {
  Health& h = health();
  const std::unique_lock lock(h.mu);
  h.failed.store(false, std::memory_order_release);
}

void fail_cuda(const std::string& what, std::source_location at) {
  Health& h = health();
  const std::unique_lock lock(h.mu);  // no host work runs
  if (h.failed.load(std::memory_order_relaxed)) return;
  h.message = "the GPU failed: " + what + ", reported at " + text_of(at) + last_launch_text();
  h.failed.store(true, std::memory_order_release);
}

void report_cuda_error(cudaError_t error, std::source_location at) {
  if (cuda_failed()) return;
  const std::string what =
      std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
  if (is_bug(error)) die((what + last_launch_text()).c_str(), at);
  fail_cuda(what, at);
}

void run_host_work(const std::function<void()>& work) {
  Health& h = health();
  const std::shared_lock lock(h.mu);
  if (!h.failed.load(std::memory_order_relaxed)) work();
}

void note_launch(const void* kernel, const cudaLaunchConfig_t& config, std::source_location at) {
  last_launch() = {
      .what = Launched::kKernel,
      .kernel = kernel_name(kernel),
      .blocks = config.gridDim,
      .threads = config.blockDim,
      .shared_bytes = config.dynamicSmemBytes,
      .at = at};
}

void note_graph_launch(std::source_location at) {
  LastLaunch& last = last_launch();
  last.what = Launched::kGraph;
  last.at = at;
}

}  // namespace engram::memory

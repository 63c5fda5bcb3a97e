#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace cuda_emulation {

// How often an event was recorded, and which of these records has been reached.
class Mark {
 public:
  uint64_t record() {
    const std::lock_guard lock(mu_);
    return ++recorded_;
  }
  uint64_t recorded() {
    const std::lock_guard lock(mu_);
    return recorded_;
  }
  void reach(uint64_t record) {
    const std::lock_guard lock(mu_);
    reached_ = std::max(reached_, record);
    at_ = std::chrono::steady_clock::now();
    changed_.notify_all();
  }
  void wait_for(uint64_t record) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return reached_ >= record; });
  }
  bool done() {
    const std::lock_guard lock(mu_);
    return reached_ >= recorded_;
  }
  std::chrono::steady_clock::time_point at() {
    const std::lock_guard lock(mu_);
    return at_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  uint64_t recorded_ = 0;                     // guarded by mu_
  uint64_t reached_ = 0;                      // guarded by mu_
  std::chrono::steady_clock::time_point at_;  // of the last reach(), guarded by mu_
};

class Queue {
 public:
  Queue() : thread_([this] { run(); }) {}
  ~Queue() {
    synchronize();
    {
      const std::lock_guard lock(mu_);
      quit_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }
  void push(std::function<void()> work) {
    const std::lock_guard lock(mu_);
    work_.push_back(std::move(work));
    changed_.notify_all();
  }
  void synchronize() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return work_.empty() && !running_; });
  }

 private:
  void run() {
    std::unique_lock lock(mu_);
    while (true) {
      changed_.wait(lock, [this] { return quit_ || !work_.empty(); });
      if (work_.empty()) return;
      const std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      running_ = true;
      lock.unlock();
      work();
      lock.lock();
      running_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;  // guarded by mu_
  bool running_ = false;                    // guarded by mu_
  bool quit_ = false;                       // guarded by mu_
  std::thread thread_;                      // last: it uses the others
};

namespace {
// Work for no stream in particular.
Queue& default_queue() {
  static Queue queue;
  return queue;
}
Queue& queue_of(Queue* stream) {
  return stream == nullptr ? default_queue() : *stream;
}
}  // namespace

void enqueue(Queue* stream, std::function<void()> work) {
  queue_of(stream).push(std::move(work));
}

namespace {
std::atomic<int64_t> launched{0};
}  // namespace
int64_t launches() {
  return launched.load();
}
void count_launch() {
  ++launched;
}

}  // namespace cuda_emulation

namespace {

constexpr size_t kMemoryBytes = size_t{8} << 30;

// Host memory that kernels may read, by its begin.
class PinnedMemory {
 public:
  void add(const void* data, size_t bytes) {
    const std::lock_guard<std::mutex> lock(mu_);
    ranges_[static_cast<const char*>(data)] = bytes;
  }
  bool remove(const void* data) {
    const std::lock_guard<std::mutex> lock(mu_);
    return ranges_.erase(static_cast<const char*>(data)) == 1;
  }
  bool holds(const void* data) {
    const std::lock_guard<std::mutex> lock(mu_);
    const char* at = static_cast<const char*>(data);
    const auto after = ranges_.upper_bound(at);
    if (after == ranges_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return at < begin + bytes;
  }

 private:
  std::mutex mu_;
  std::map<const char*, size_t> ranges_;
};

PinnedMemory& pinned_memory() {
  static PinnedMemory memory;
  return memory;
}

}  // namespace

using cuda_emulation::Mark;
using cuda_emulation::Queue;
using cuda_emulation::queue_of;

// Both texts of an error, as CUDA has them.
namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
};

const ErrorText& text_of(cudaError_t error) {
  static constexpr ErrorText kUnknown = {
      cudaErrorInvalidValue, "unrecognized error code", "unknown error"};
  for (const ErrorText& known : kErrors) {
    if (known.error == error) return known;
  }
  return kUnknown;
}

}  // namespace

cuda_emulation::Machine& cuda_emulation::machine() {
  static Machine machine;
  return machine;
}

const char* cudaGetErrorString(cudaError_t error) {
  return text_of(error).text;
}
const char* cudaGetErrorName(cudaError_t error) {
  return text_of(error).name;
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = cuda_emulation::machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = cuda_emulation::machine().devices;
  return cuda_emulation::machine().count_error;
}
cudaError_t cudaSetDevice(int index) {
  return index == 0 ? cuda_emulation::machine().set_device_error : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index != 0) return cudaErrorInvalidDevice;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulation");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = kMemoryBytes;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = -1;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (bytes > kMemoryBytes) return cudaErrorMemoryAllocation;
  // 256-byte boundaries as CUDA promises, and not one byte more than asked for.
  if (posix_memalign(data, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);  // what a GPU leaves there is nobody's value
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = kMemoryBytes;
  return cudaSuccess;
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  queue_of(stream).push([=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  const cudaError_t error = cudaMalloc(data, bytes);
  if (error == cudaSuccess) pinned_memory().add(*data, bytes);
  return error;
}
cudaError_t cudaFreeHost(void* data) {
  if (!pinned_memory().remove(data)) return cudaErrorInvalidValue;
  return cudaFree(data);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  void* pointer = const_cast<void*>(data);
  *attributes = {cudaMemoryTypeUnregistered, 0, nullptr, pointer};
  if (pinned_memory().holds(data)) *attributes = {cudaMemoryTypeHost, 0, pointer, pointer};
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned) {
  if (pinned_memory().holds(data)) return cudaErrorInvalidValue;
  pinned_memory().add(data, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* data) {
  return pinned_memory().remove(data) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = std::make_unique<Queue>().release();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::unique_ptr<Queue> owned(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  queue_of(stream).synchronize();
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*work)(void*), void* data) {
  queue_of(stream).push([work, data] { work(data); });
  return cudaSuccess;
}
// Waits for the record made last when this is called, as CUDA does.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const uint64_t record = event->recorded();
  queue_of(stream).push([event, record] { event->wait_for(record); });
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = std::make_unique<Mark>().release();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::unique_ptr<Mark> owned(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const uint64_t record = event->record();
  queue_of(stream).push([event, record] { event->reach(record); });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  event->wait_for(event->recorded());
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  return event->done() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->done() || !end->done()) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->at() - begin->at()).count();
  return cudaSuccess;
}

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "tests/support/cuda_emulation/pinned_memory.h"
#include "tests/support/cuda_emulation/queues.h"

namespace cuda_emulation {

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

namespace {

// A node for a stream that takes part in a capture, else work for its queue.
cudaError_t take(Queue* stream, Node node) {
  if (!node.mark) {
    node.work = [work = std::move(node.work)] { run_unless_broken(work); };
  }
  if (stream == nullptr) {
    // Work of the legacy stream would wait for the captured ones.
    if (refuse_while_capturing() != cudaSuccess) return cudaErrorStreamCaptureImplicit;
  } else if (stream->capture != nullptr) {
    if (stream->capture->broken()) return cudaErrorStreamCaptureInvalidated;
    stream->capture->add(stream, std::move(node));
    return cudaSuccess;
  }
  if (const cudaError_t error = sticky_error(); error != cudaSuccess && !node.mark) return error;
  if (node.kernel) count_launch();
  queue_of(stream).push(std::move(node.work));
  return cudaSuccess;
}

std::atomic<int64_t> launched{0};
std::atomic<int64_t> graphs_launched{0};

}  // namespace

cudaError_t enqueue(Queue* stream, std::function<void()> work) {
  return take(stream, {.work = std::move(work)});
}
cudaError_t enqueue_mark(Queue* stream, std::function<void()> mark) {
  return take(stream, {.work = std::move(mark), .mark = true});
}
cudaError_t enqueue_kernel(Queue* stream, std::function<void()> work) {
  return take(stream, {.work = std::move(work), .kernel = true});
}

int64_t launches() {
  return launched.load();
}
void count_launch() {
  ++launched;
}
int64_t graph_launches() {
  return graphs_launched.load();
}
void count_graph_launch() {
  ++graphs_launched;
}

}  // namespace cuda_emulation

namespace {

constexpr size_t kMemoryBytes = size_t{8} << 30;
constexpr int kHighestPriority = -5;  // the lowest is 0

// What a call of the host is to be given. Calls that are dropped leave it to nobody; it is kept, so
// that it is not a leak of the program.
class HostCall {
 public:
  explicit HostCall(void* data) : data_(data) {}
  ~HostCall() {
    static std::mutex mu;
    static std::vector<void*>* const dropped = std::make_unique<std::vector<void*>>().release();
    if (data_ == nullptr) return;
    const std::lock_guard lock(mu);
    dropped->push_back(data_);
  }
  void* take() { return std::exchange(data_, nullptr); }

 private:
  void* data_;
};

}  // namespace

using cuda_emulation::Capture;
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
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable",
     "CUDA-capable device(s) is/are busy or unavailable"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
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
  return cuda_emulation::sticky_error();
}
cudaError_t cudaFuncGetName(const char** name, const void* function) {
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  *name = cuda_emulation::function_name(function);
  return *name != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction;
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
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
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
  const cudaError_t refused = cuda_emulation::refusal();
  if (refused != cudaSuccess) return refused;
  if (bytes > kMemoryBytes) return cudaErrorMemoryAllocation;
  // 256-byte boundaries as CUDA promises, and not one byte more than asked for.
  if (posix_memalign(data, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);  // what a GPU leaves there is nobody's value
  return cudaSuccess;
}
cudaError_t cudaFree(void* data) {
  const cudaError_t refused = cuda_emulation::refuse_while_capturing();
  if (refused != cudaSuccess) return refused;
  const cudaError_t error = cuda_emulation::sticky_error();
  std::free(data);
  return error;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *free_bytes = *total_bytes = kMemoryBytes;
  return cuda_emulation::sticky_error();
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  const cudaError_t refused = cuda_emulation::refusal();
  if (refused != cudaSuccess) return refused;
  std::memset(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return cuda_emulation::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
cudaError_t cudaMemcpy2DAsync(
    void* to,
    size_t to_pitch,
    const void* from,
    size_t from_pitch,
    size_t width,
    size_t height,
    cudaMemcpyKind,
    cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidValue;
  return cuda_emulation::enqueue(stream, [=] {
    for (size_t i = 0; i < height; ++i) {
      std::memcpy(
          static_cast<char*>(to) + i * to_pitch, static_cast<const char*>(from) + i * from_pitch,
          width);
    }
  });
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  const cudaError_t error = cudaMalloc(data, bytes);
  if (error == cudaSuccess) cuda_emulation::pinned_memory().add(*data, bytes);
  return error;
}
cudaError_t cudaFreeHost(void* data) {
  if (!cuda_emulation::pinned_memory().remove(data)) return cudaErrorInvalidValue;
  return cudaFree(data);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  void* pointer = const_cast<void*>(data);
  *attributes = {cudaMemoryTypeUnregistered, 0, nullptr, pointer};
  if (cuda_emulation::pinned_memory().holds(data))
    *attributes = {cudaMemoryTypeHost, 0, pointer, pointer};
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned) {
  const cudaError_t refused = cuda_emulation::refusal();
  if (refused != cudaSuccess) return refused;
  if (cuda_emulation::pinned_memory().holds(data)) return cudaErrorInvalidValue;
  cuda_emulation::pinned_memory().add(data, bytes);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* data) {
  return cuda_emulation::pinned_memory().remove(data) ? cuda_emulation::sticky_error()
                                                      : cudaErrorInvalidValue;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = std::make_unique<Queue>().release();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* lowest, int* highest) {
  *lowest = 0;
  *highest = kHighestPriority;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  if (priority > 0 || priority < kHighestPriority) return cudaErrorInvalidValue;
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::unique_ptr<Queue> owned(stream);
  return cuda_emulation::sticky_error();
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const cudaError_t refused = cuda_emulation::refuse_while_capturing();
  if (refused != cudaSuccess) return refused;
  queue_of(stream).synchronize();
  return cuda_emulation::sticky_error();
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*work)(void*), void* data) {
  const auto called = std::make_shared<HostCall>(data);
  return cuda_emulation::enqueue(stream, [work, called] { work(called->take()); });
}
// Waits for the record made last when this is called, as CUDA does.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  std::vector<size_t> nodes;
  const std::shared_ptr<Capture> recorded_in = event->captured(&nodes);
  if (recorded_in != nullptr) {
    if (stream->capture == nullptr) stream->capture = recorded_in;
    if (stream->capture != recorded_in) return cudaErrorStreamCaptureMerge;
    recorded_in->join(stream, nodes);
    return cudaSuccess;
  }
  if (stream != nullptr && stream->capture != nullptr) {
    if (flags == cudaEventWaitExternal) {
      stream->capture->add(stream, {.event = event});
      return cudaSuccess;
    }
    stream->capture->break_off();
    return cudaErrorStreamCaptureIsolation;
  }
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  const uint64_t record = event->recorded();
  return cuda_emulation::enqueue_mark(stream, [event, record] { event->wait_for(record); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = std::make_unique<Mark>().release();
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const cudaError_t error = cuda_emulation::sticky_error();
  const std::unique_ptr<Mark> owned(event);
  return error;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (stream != nullptr && stream->capture != nullptr) {
    event->set_captured(stream->capture, stream->capture->last(stream));
    return cudaSuccess;
  }
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  const uint64_t record = event->record();
  return cuda_emulation::enqueue_mark(stream, [event, record] { event->reach(record); });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const cudaError_t refused = cuda_emulation::refuse_while_capturing();
  if (refused != cudaSuccess) return refused;
  event->wait_for(event->recorded());
  return cuda_emulation::sticky_error();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const cudaError_t refused = cuda_emulation::refuse_while_capturing();
  if (refused != cudaSuccess) return refused;
  if (const cudaError_t error = cuda_emulation::sticky_error(); error != cudaSuccess) return error;
  return event->done() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->done() || !end->done()) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->at() - begin->at()).count();
  return cudaSuccess;
}

// The CUDA device: memory, streams, events and copies of one GPU.

#include "memory/device/cuda_handle.h"
#include "memory/device/device_cuda.h"

namespace engram::memory {
namespace {

class GpuEvent : public Event {
 public:
  GpuEvent() : handle_(create()) {}
  void synchronize() override { cuda_ok(cudaEventSynchronize(handle_.get())); }
  bool done() const override {
    const cudaError_t state = cudaEventQuery(handle_.get());
    if (state == cudaErrorNotReady) return false;
    cuda_ok(state);
    return true;
  }
  cudaEvent_t native() const { return handle_.get(); }

 private:
  static cudaEvent_t create() {
    cudaEvent_t event = nullptr;
    cuda_ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  CudaEvent handle_;
};

class GpuStream : public Stream {
 public:
  GpuStream() : handle_(create()) {}
  void record(Event& event) override {
    cuda_ok(cudaEventRecord(static_cast<GpuEvent&>(event).native(), handle_.get()));
  }
  // The host cannot see how long the GPU stood still: *waited_ns is left as it is.
  void wait(const Event& event, std::atomic<int64_t>*) override {
    cuda_ok(cudaStreamWaitEvent(handle_.get(), static_cast<const GpuEvent&>(event).native()));
  }
  void synchronize() override { cuda_ok(cudaStreamSynchronize(handle_.get())); }
  cudaStream_t native() const { return handle_.get(); }

 private:
  static cudaStream_t create() {
    cudaStream_t stream = nullptr;
    cuda_ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }
  CudaStream handle_;
};

void release(void* data, int64_t) {
  cuda_ok(cudaFree(data));
}

class GpuDevice : public Device {
 public:
  explicit GpuDevice(int index) : index_(index) {
    cuda_ok(cudaSetDevice(index));
    cuda_ok(cudaGetDeviceProperties(&properties_, index));
  }

  std::string name() const override {
    return "cuda:" + std::to_string(index_) + " (" + properties_.name + ", sm_" +
           std::to_string(properties_.major) + std::to_string(properties_.minor) + ")";
  }
  std::unique_ptr<Stream> make_stream(const std::string&) override {
    return std::make_unique<GpuStream>();
  }
  std::unique_ptr<Event> make_event() override { return std::make_unique<GpuEvent>(); }
  void copy(Stream& stream, void* to, const void* from, int64_t bytes) override {
    cuda_ok(cudaMemcpyAsync(
        to, from, static_cast<size_t>(bytes), cudaMemcpyDefault,
        static_cast<GpuStream&>(stream).native()));
  }

 private:
  Result<Buffer> do_allocate(const std::string& what, int64_t bytes) override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cuda_ok(cudaMemGetInfo(&free_bytes, &total_bytes));
    void* data = nullptr;
    // At least one byte: the pointer of an empty buffer is still a pointer of this device.
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: clear it
      return resource_exhausted(
          what + ": " + std::to_string(bytes) + " bytes wanted, " + std::to_string(free_bytes) +
          " of " + std::to_string(total_bytes) + " free on " + name());
    }
    cuda_ok(error);
    cuda_ok(cudaMemset(data, 0, static_cast<size_t>(bytes)));
    return Buffer(data, bytes, release);
  }

  const int index_;
  cudaDeviceProp properties_{};
};

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    return failed_precondition(
        std::string("no CUDA device: ") + cudaGetErrorString(error) + " (" +
        cudaGetErrorName(error) + ")");
  }
  if (index < 0 || index >= count) {
    return failed_precondition(
        "CUDA device " + std::to_string(index) + " does not exist: there are " +
        std::to_string(count));
  }
  return std::unique_ptr<Device>(std::make_unique<GpuDevice>(index));
}

}  // namespace engram::memory

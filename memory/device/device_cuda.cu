// The CUDA device: memory, streams, events and copies of one GPU.

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "memory/device/cuda_handle.h"
#include "memory/device/device_cuda.h"
#include "memory/device/host_pages_cuda.h"
#include "memory/device/page_lock.h"
#include "memory/device/stream_stamps.cuh"

namespace engram::memory {
namespace {

bool captures(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cuda_ok(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

class GpuEvent : public Event {
 public:
  GpuEvent() : handle_(create()) {}
  void synchronize() override {
    if (!cuda_failed()) cuda_ok(cudaEventSynchronize(handle_.get()));
  }
  bool done() const override {
    if (cuda_failed()) return true;
    const cudaError_t state = cudaEventQuery(handle_.get());
    if (state == cudaErrorNotReady) return false;
    cuda_ok(state);
    return true;
  }
  cudaEvent_t native() const { return handle_.get(); }
  // Its last record was captured: it is a place in a graph.
  bool captured() const { return captured_; }
  void set_captured(bool captured) { captured_ = captured; }

 private:
  static cudaEvent_t create() {
    cudaEvent_t event = nullptr;
    cuda_ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }
  CudaEvent handle_;
  bool captured_ = false;
};

void CUDART_CB run_owned_work(void* data) {
  const std::unique_ptr<std::function<void()>> work(static_cast<std::function<void()>*>(data));
  run_host_work(*work);
}

class GpuStream : public Stream {
 public:
  // `stamps` is null, or times waits and spans.
  GpuStream(StreamPriority priority, StreamStamps* stamps)
      : handle_(create(priority)), stamps_(stamps) {}
  void record(Event& event) override {
    if (cuda_failed()) return;
    GpuEvent& gpu_event = static_cast<GpuEvent&>(event);
    cuda_ok(cudaEventRecord(gpu_event.native(), handle_.get()));
    gpu_event.set_captured(captures(handle_.get()));
  }
  void wait(const Event& event, std::atomic<int64_t>* waited_ns) override {
    if (cuda_failed()) return;
    const GpuEvent& gpu_event = static_cast<const GpuEvent&>(event);
    const bool outside = captures(handle_.get()) && !gpu_event.captured();
    const bool timed = stamps_ != nullptr && waited_ns != nullptr;
    if (timed) stamps_->begin(handle_.get(), waited_ns);
    cuda_ok(cudaStreamWaitEvent(
        handle_.get(), gpu_event.native(), outside ? cudaEventWaitExternal : cudaEventWaitDefault));
    if (timed) stamps_->end(handle_.get(), waited_ns);
  }
  void begin_span(std::atomic<int64_t>* ns) override {
    if (stamps_ != nullptr && !cuda_failed()) stamps_->begin(handle_.get(), ns);
  }
  void end_span(std::atomic<int64_t>* ns) override {
    if (stamps_ != nullptr && !cuda_failed()) stamps_->end(handle_.get(), ns);
  }
  void enqueue_host(std::function<void()> work) override {
    if (cuda_failed()) return;
    ENGRAM_CHECK(!captures(handle_.get()));  // the work is called once and then gone
    auto owned = std::make_unique<std::function<void()>>(std::move(work));
    const bool taken = cuda_ok(cudaLaunchHostFunc(handle_.get(), run_owned_work, owned.get()));
    if (taken) owned.release();
  }
  void synchronize() override {
    if (!cuda_failed()) cuda_ok(cudaStreamSynchronize(handle_.get()));
  }
  cudaStream_t native() const { return handle_.get(); }

 private:
  static cudaStream_t create(StreamPriority priority) {
    int lowest = 0;
    int highest = 0;
    cuda_ok(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    cudaStream_t stream = nullptr;
    cuda_ok(cudaStreamCreateWithPriority(
        &stream, cudaStreamNonBlocking, priority == StreamPriority::kHigh ? highest : lowest));
    return stream;
  }
  CudaStream handle_;
  StreamStamps* const stamps_;
};

class GpuRecording : public Recording {
 public:
  GpuRecording(CudaGraphExec exec, int64_t pieces) : exec_(std::move(exec)), pieces_(pieces) {}
  void replay(Stream& stream) override {
    if (cuda_failed()) return;
    note_graph_launch();
    cuda_ok(cudaGraphLaunch(exec_.get(), static_cast<GpuStream&>(stream).native()));
  }
  int64_t pieces() const override { return pieces_; }

 private:
  CudaGraphExec exec_;
  int64_t pieces_ = 0;
};

// A GPU that failed says so to the next call; a graph too many is only slower.
Status recording_refused(const char* call, cudaError_t error) {
  cudaGetLastError();
  const std::string said =
      std::string(call) + ": " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) + ")";
  return error == cudaErrorMemoryAllocation ? resource_exhausted(said) : internal(said);
}

void release(void* data, int64_t) {
  cuda_ok(cudaFree(data));
}
void release_pinned(void* data, int64_t) {
  cuda_ok(cudaFreeHost(data));
}

// One block per row and round; T is as wide as every row's begin allows.
template <typename T>
__global__ void copy_rows_kernel(
    T* to, const T* from, int64_t width, const int32_t* rows, int64_t count) {
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t at = rows[i] * width;
    for (int64_t c = threadIdx.x; c < width; c += blockDim.x) to[at + c] = from[at + c];
  }
}

// A few blocks fill a PCIe link, and leave the rest of the GPU to the layers that run meanwhile.
constexpr int64_t kCopyBlocks = 8;
constexpr unsigned kCopyThreads = 512;

template <typename T>
void launch_copy_rows(cudaStream_t stream, View to, View from, const int32_t* rows, int64_t count) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(std::min(count, kCopyBlocks)));
  config.blockDim = dim3(kCopyThreads);
  config.stream = stream;
  const int64_t width = to.cols * dtype_bytes(to.dtype) / static_cast<int64_t>(sizeof(T));
  enqueue_kernel(
      config, copy_rows_kernel<T>, to.as<T>(), static_cast<const T*>(from.as<T>()), width, rows,
      count);
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
  std::unique_ptr<Stream> make_stream(const std::string&, StreamPriority priority) override {
    return std::make_unique<GpuStream>(priority, stamps_.get());
  }
  std::unique_ptr<Event> make_event() override { return std::make_unique<GpuEvent>(); }
  void copy(Stream& stream, void* to, const void* from, int64_t bytes) override {
    if (bytes == 0 || cuda_failed()) return;
    cuda_ok(cudaMemcpyAsync(
        to, from, static_cast<size_t>(bytes), cudaMemcpyDefault,
        static_cast<GpuStream&>(stream).native()));
  }

  void copy_rows(Stream& stream, View to, View from, const int32_t* rows, int64_t count) override {
    ENGRAM_CHECK(to.contiguous());
    ENGRAM_CHECK(from.contiguous());
    if (count == 0) return;
    const cudaStream_t native = static_cast<GpuStream&>(stream).native();
    if (to.cols * dtype_bytes(to.dtype) % 16 == 0) {
      launch_copy_rows<uint4>(native, to, from, rows, count);
    } else {
      launch_copy_rows<uint16_t>(native, to, from, rows, count);
    }
  }
  void copy_strided(
      Stream& stream,
      void* to,
      int64_t to_stride,
      const void* from,
      int64_t from_stride,
      int64_t bytes,
      int64_t count) override {
    if (cuda_failed()) return;
    cuda_ok(cudaMemcpy2DAsync(
        to, static_cast<size_t>(to_stride), from, static_cast<size_t>(from_stride),
        static_cast<size_t>(bytes), static_cast<size_t>(count), cudaMemcpyDefault,
        static_cast<GpuStream&>(stream).native()));
  }

  bool records() const override { return true; }
  Result<std::unique_ptr<Recording>> record(
      Stream& stream, const std::function<void()>& work) override {
    if (cuda_failed()) return failure();
    const cudaStream_t native = static_cast<GpuStream&>(stream).native();
    // Other threads, that load tables say, may allocate meanwhile.
    const cudaError_t begun = cudaStreamBeginCapture(native, cudaStreamCaptureModeThreadLocal);
    if (begun != cudaSuccess) return recording_refused("cudaStreamBeginCapture", begun);
    work();
    cudaGraph_t captured = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(native, &captured);
    if (ended != cudaSuccess) return recording_refused("cudaStreamEndCapture", ended);
    const CudaGraph graph(captured);
    size_t nodes = 0;
    if (!cuda_ok(cudaGraphGetNodes(graph.get(), nullptr, &nodes))) return failure();
    cudaGraphExec_t exec = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&exec, graph.get(), 0);
    if (made != cudaSuccess) return recording_refused("cudaGraphInstantiate", made);
    return std::unique_ptr<Recording>(
        std::make_unique<GpuRecording>(CudaGraphExec(exec), static_cast<int64_t>(nodes)));
  }

  Status failure() const override { return cuda_failure(); }

  bool host_reads_buffers() const override { return false; }
  Status time_waits() {
    Result<std::unique_ptr<StreamStamps>> stamps = StreamStamps::make();
    if (!stamps.ok()) return stamps.status();
    stamps_ = std::move(stamps).value();
    return {};
  }
  bool times_waits() const override { return stamps_ != nullptr; }
  bool reads_host(const void* data) const override {
    if (reads_host_page_tables()) return true;
    cudaPointerAttributes attributes{};
    cuda_ok(cudaPointerGetAttributes(&attributes, data));
    return attributes.type == cudaMemoryTypeHost && attributes.devicePointer == data;
  }
  int64_t available_bytes() const override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cuda_ok(cudaMemGetInfo(&free_bytes, &total_bytes));
    return static_cast<int64_t>(free_bytes);
  }

  Status pin(const HostRange& range) override {
    if (range.bytes == 0) return Status();
    if (reads_host_page_tables()) return lock_pages(range);
    cuda_ok(cudaSetDevice(index_));  // of the calling thread
    unsigned flags = cudaHostRegisterPortable;
    if (range.read_only) flags |= cudaHostRegisterReadOnly;
    const cudaError_t error = cudaHostRegister(range.data, static_cast<size_t>(range.bytes), flags);
    if (error == cudaSuccess) return Status();
    cudaGetLastError();  // not sticky: clear it
    return failed_precondition(
        "cudaHostRegister of " + std::to_string(range.bytes) + " bytes" +
        (range.read_only ? ", read-only," : "") + " refused by " + name() + ": " +
        cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
        "); check the memlock limit (ulimit -l) and the memory limit of the container");
  }

  void unpin(const HostRange& range) override {
    if (range.bytes == 0) return;
    if (reads_host_page_tables()) return unlock_pages(range);
    cuda_ok(cudaSetDevice(index_));
    cuda_ok(cudaHostUnregister(range.data));
  }

  Result<Buffer> allocate_host_pages(int64_t bytes, int numa_node) override {
    if (reads_host_page_tables()) {
      return failed_precondition(name() + " reads host memory through the host's page tables");
    }
    cuda_ok(cudaSetDevice(index_));  // of the calling thread
    if (cuda_failed()) return failure();
    Result<Buffer> pages = allocate_host_pages_of_driver(index_, numa_node, bytes);
    if (!pages.ok() || reads_host(pages.value().data())) return pages;
    return internal("memory of cuMemCreate() that " + name() + " takes for the host's alone");
  }

  int numa_node() const override {
    int node = -1;
    if (cudaDeviceGetAttribute(&node, cudaDevAttrHostNumaId, index_) == cudaSuccess) return node;
    cudaGetLastError();  // a driver that does not know the question
    return -1;
  }

 private:
  // Such a device (C2C, ATS) reads any host memory at full speed; registering would gain nothing.
  bool reads_host_page_tables() const {
    return properties_.pageableMemoryAccessUsesHostPageTables != 0;
  }

  Result<Buffer> do_allocate(const std::string& what, int64_t bytes) override {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    if (!cuda_ok(cudaMemGetInfo(&free_bytes, &total_bytes))) return failure();
    void* data = nullptr;
    // At least one byte: the pointer of an empty buffer is still a pointer of this device.
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: clear it
      return resource_exhausted(
          what + ": " + std::to_string(bytes) + " bytes wanted, " + std::to_string(free_bytes) +
          " of " + std::to_string(total_bytes) + " free on " + name());
    }
    if (!cuda_ok(error)) return failure();
    Buffer buffer(data, bytes, release);
    // Of memory on the device it only begins, and no stream here waits for the default one.
    const bool zeroed = cuda_ok(cudaMemset(data, 0, static_cast<size_t>(bytes))) &&
                        cuda_ok(cudaStreamSynchronize(nullptr));
    if (!zeroed) return failure();
    return Result<Buffer>(std::move(buffer));
  }

  Result<Buffer> do_allocate_pinned(const std::string& what, int64_t bytes) override {
    void* data = nullptr;
    const size_t size = static_cast<size_t>(bytes > 0 ? bytes : 1);
    const cudaError_t error = cudaHostAlloc(&data, size, cudaHostAllocPortable);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: clear it
      return resource_exhausted(
          what + ": " + std::to_string(bytes) + " bytes of pinned host memory refused by " +
          name());
    }
    if (!cuda_ok(error)) return failure();
    std::memset(data, 0, size);
    return Buffer(data, bytes, release_pinned);
  }

  const int index_;
  cudaDeviceProp properties_{};
  std::unique_ptr<StreamStamps> stamps_;
};

// "13.0"
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// Why the GPUs cannot even be counted.
Status no_gpus(cudaError_t error) {
  const std::string said =
      std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
  int driver = 0;
  int runtime = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return failed_precondition(
        "no CUDA device: no NVIDIA driver found: " + said +
        "; install one, or start the container with --gpus all");
  }
  if (error == cudaErrorInsufficientDriver && cudaRuntimeGetVersion(&runtime) == cudaSuccess) {
    return failed_precondition(
        "no CUDA device: the NVIDIA driver supports CUDA up to " + version_text(driver) +
        ", this build needs " + version_text(runtime) + ": " + said + "; update the driver");
  }
  if (error == cudaErrorNoDevice) {
    return failed_precondition(
        "no CUDA device: the driver sees no GPU: " + said +
        "; check nvidia-smi, CUDA_VISIBLE_DEVICES and, in a container, --gpus");
  }
  return failed_precondition("no CUDA device: " + said);
}

// What stands in the way of using that GPU.
Status check_gpu(int index) {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess) return no_gpus(counted);
  const std::string gpu = "CUDA device " + std::to_string(index);
  if (index < 0 || index >= count) {
    return failed_precondition(gpu + " does not exist: there are " + std::to_string(count));
  }
  const auto unusable = [](const std::string& which, cudaError_t error) {
    return failed_precondition(
        which + " cannot be used: " + cudaGetErrorString(error) + " (" + cudaGetErrorName(error) +
        "); another process may hold it (nvidia-smi shows which, and the compute mode)");
  };
  cudaDeviceProp properties{};
  const cudaError_t described = cudaGetDeviceProperties(&properties, index);
  if (described != cudaSuccess) return unusable(gpu, described);
  const std::string named = gpu + " (" + properties.name + ", sm_" +
                            std::to_string(properties.major) + std::to_string(properties.minor) +
                            ")";
  const cudaError_t taken = cudaSetDevice(index);
  if (taken != cudaSuccess) return unusable(named, taken);
  cudaFuncAttributes attributes{};
  const cudaError_t found = cudaFuncGetAttributes(&attributes, copy_rows_kernel<uint4>);
  if (found == cudaErrorNoKernelImageForDevice) {
    return failed_precondition(
        named +
        ": this build has no code for it; kernels need sm_80 or newer, and a build with it "
        "in CMAKE_CUDA_ARCHITECTURES");
  }
  if (found != cudaSuccess) return unusable(named, found);
  return {};
}

}  // namespace

cudaStream_t native_stream(Stream& stream) {
  return static_cast<GpuStream&>(stream).native();
}

Result<std::unique_ptr<Device>> make_cuda_device(int index, bool time_waits) {
  forget_cuda_failure();
  ENGRAM_RETURN_IF_ERROR(check_gpu(index));
  std::unique_ptr<GpuDevice> device = std::make_unique<GpuDevice>(index);
  if (time_waits) ENGRAM_RETURN_IF_ERROR(device->time_waits());
  ENGRAM_RETURN_IF_ERROR(device->failure());
  return Result<std::unique_ptr<Device>>(std::move(device));
}

}  // namespace engram::memory

// The runtime's functions for the host: memory, streams, events, launches. Included by the
// emulation's cuda_runtime.h.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

#include "tests/support/cuda_emulation/grid.h"

// CUDA's own names and numbers, as far as the project uses them.
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureMerge = 902,
  cudaErrorStreamCaptureUnmatched = 903,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorStreamCaptureImplicit = 906,
  cudaErrorStreamCaptureWrongThread = 908,
};
enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};
enum cudaMemoryType {
  cudaMemoryTypeUnregistered = 0,
  cudaMemoryTypeHost = 1,
  cudaMemoryTypeDevice = 2,
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void* devicePointer;
  void* hostPointer;
};
enum cudaDeviceAttr { cudaDevAttrHostNumaId = 134 };
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0;
constexpr unsigned cudaEventDisableTiming = 2;
constexpr unsigned cudaEventWaitDefault = 0;
constexpr unsigned cudaEventWaitExternal = 1;
enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2,
};
enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2,
};
constexpr unsigned cudaHostAllocPortable = 1;
constexpr unsigned cudaHostRegisterPortable = 1;
#define CUDART_CB
constexpr unsigned cudaHostRegisterReadOnly = 8;

namespace cuda_emulation {
class Queue;
class Mark;
struct Graph;
struct GraphExec;
// Recorded where the stream takes part in a capture. Work is dropped when its turn comes after the
// device broke; marks, which tell who is how far, are not.
cudaError_t enqueue(Queue* stream, std::function<void()> work);
cudaError_t enqueue_mark(Queue* stream, std::function<void()> mark);
cudaError_t enqueue_kernel(Queue* stream, std::function<void()> work);
// Kernels started so far, by any thread, those of launched graphs among them.
int64_t launches();
void count_launch();
int64_t graph_launches();
void count_graph_launch();
// What the calls that begin the use of a GPU answer; tests change it, and change it back.
struct Machine {
  cudaError_t count_error = cudaSuccess;
  cudaError_t set_device_error = cudaSuccess;
  cudaError_t function_error = cudaSuccess;
  cudaError_t capture_error = cudaSuccess;  // of the end of a capture
  cudaError_t instantiate_error = cudaSuccess;
  int devices = 1;
  int driver_version = 13000;
  bool host_memory_of_driver = true;     // cuMemCreate() on the host
  int64_t most_host_memory = INT64_MAX;  // that one call of it gives
};
Machine& machine();

// The device breaks in place of the kernel that runs as the `count`-th from now on among those with
// `kernel` in their names: that one and all work after it are not done, and each call answers
// `error`, as it does when an address does not exist or a GPU is gone.
struct Fault {
  std::string kernel = {};
  int64_t count = 1;
  cudaError_t error = cudaErrorIllegalAddress;
};
void arm(const Fault& fault);
void break_device(cudaError_t error);  // at once
// The device is whole again, and no fault is armed.
void repair();

// What every call answers once the device broke. What was enqueued by then is gone.
cudaError_t sticky_error();
void run_unless_broken(const std::function<void()>& work);
// False: the device breaks in place of this kernel.
bool survives(const void* kernel);
// Of the program, as its linker has it; null: unknown.
const char* function_name(const void* function);
}  // namespace cuda_emulation
using cudaStream_t = cuda_emulation::Queue*;
using cudaEvent_t = cuda_emulation::Mark*;
using cudaGraph_t = cuda_emulation::Graph*;
using cudaGraphExec_t = cuda_emulation::GraphExec*;
using cudaGraphNode_t = void*;

struct cudaDeviceProp {
  char name[256];
  int major;
  int minor;
  int multiProcessorCount;
  size_t totalGlobalMem;
  int l2CacheSize;
  int pageableMemoryAccessUsesHostPageTables;
};
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int index);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index);

struct cudaFuncAttributes {
  int numRegs;
  int ptxVersion;
};
template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel*) {
  *attributes = {.numRegs = 0, .ptxVersion = 90};
  return cuda_emulation::machine().function_error;
}
cudaError_t cudaFuncGetName(const char** name, const void* function);
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
// What a kernel may have without it is not watched.
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int value) {
  constexpr int kMostShared = 227 << 10;
  return value <= kMostShared ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);
cudaError_t cudaMemset(void* data, int value, size_t bytes);
cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(
    void* to,
    size_t to_pitch,
    const void* from,
    size_t from_pitch,
    size_t width,
    size_t height,
    cudaMemcpyKind kind,
    cudaStream_t stream);
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
// Of host memory: what cudaHostAlloc() gave or cudaHostRegister() got, or neither.
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data);
cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void* data);

// The driver's functions that the emulation's cuda.h has.
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
constexpr uint64_t cudaEnableDefault = 0;
cudaError_t cudaGetDriverEntryPointByVersion(
    const char* symbol,
    void** function,
    unsigned version,
    uint64_t flags,
    cudaDriverEntryPointQueryResult* result);

// A stream runs what is enqueued on an OS thread of its own, in order, whatever its priority.
cudaError_t cudaDeviceGetStreamPriorityRange(int* lowest, int* highest);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*work)(void*), void* data);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
// Of the host's clock when the streams came there.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(
    const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const cuda_emulation::GridShape shape{
      config->gridDim, config->blockDim, config->dynamicSmemBytes,
      config->numAttrs == 1 && config->attrs->val.programmaticStreamSerializationAllowed == 1};
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  return cuda_emulation::enqueue_kernel(config->stream, [shape, kernel, values] {
    if (!cuda_emulation::survives(reinterpret_cast<const void*>(kernel))) return;
    cuda_emulation::run_grid(shape, [&] { std::apply(kernel, values); });
  });
}

// Graphs. A capture lasts from begin to end, in one thread, whose other calls are restricted as by
// cudaStreamCaptureModeThreadLocal, whatever the mode. A launched graph runs on its stream's
// thread, node by node.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, uint64_t flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

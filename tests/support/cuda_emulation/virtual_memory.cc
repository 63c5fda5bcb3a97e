#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>

#include "tests/support/cuda_emulation/cuda.h"
#include "tests/support/cuda_emulation/pinned_memory.h"
#include "tests/support/cuda_emulation/queues.h"

namespace {

constexpr size_t kPage = size_t{2} << 20;

struct Range {
  size_t bytes = 0;
  size_t mapped = 0;  // from its begin on
};

// Guarded by mu.
struct State {
  std::mutex mu;
  std::map<CUdeviceptr, Range> ranges;
  std::map<CUmemGenericAllocationHandle, size_t> handles;
  CUmemGenericAllocationHandle last_handle = 0;
};

State& state() {
  static State s;
  return s;
}

void* pointer_to(CUdeviceptr address) {
  return reinterpret_cast<void*>(address);
}

// The range that holds these bytes; null: none.
Range* range_of(State& s, CUdeviceptr begin, size_t bytes) {
  auto after = s.ranges.upper_bound(begin);
  if (after == s.ranges.begin()) return nullptr;
  auto& [first, range] = *std::prev(after);
  return begin - first + bytes <= range.bytes ? &range : nullptr;
}

bool on_host(const CUmemLocation& location) {
  return location.type == CU_MEM_LOCATION_TYPE_HOST ||
         (location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA && location.id == 0);
}

}  // namespace

CUresult cuGetErrorName(CUresult error, const char** name) {
  *name = error == CUDA_ERROR_INVALID_VALUE   ? "CUDA_ERROR_INVALID_VALUE"
          : error == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
          : error == CUDA_ERROR_NOT_SUPPORTED ? "CUDA_ERROR_NOT_SUPPORTED"
                                              : nullptr;
  return *name != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute, CUdevice device) {
  if (device != 0) return CUDA_ERROR_INVALID_VALUE;
  *value = cuda_emulation::machine().host_memory_of_driver ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(
    size_t* bytes, const CUmemAllocationProp* kind, CUmemAllocationGranularity_flags) {
  if (kind->type != CU_MEM_ALLOCATION_TYPE_PINNED || !on_host(kind->location)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *bytes = kPage;
  return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(
    CUdeviceptr* begin, size_t bytes, size_t alignment, CUdeviceptr wish, uint64_t flags) {
  if (bytes % kPage != 0 || alignment != kPage || wish != 0 || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // One page more, so that there is a multiple of the alignment, and what lies before and behind it
  // stays unreachable.
  void* raw = mmap(
      nullptr, bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUdeviceptr from = reinterpret_cast<CUdeviceptr>(raw);
  *begin = (from + kPage) / kPage * kPage;
  if (*begin > from) munmap(raw, *begin - from);
  munmap(pointer_to(*begin + bytes), from + 2 * kPage - *begin);
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  s.ranges[*begin] = {.bytes = bytes};
  return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr begin, size_t bytes) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  const auto found = s.ranges.find(begin);
  const bool whole =
      found != s.ranges.end() && found->second.bytes == bytes && found->second.mapped == 0;
  if (!whole) return CUDA_ERROR_INVALID_VALUE;
  munmap(pointer_to(begin), bytes);
  s.ranges.erase(found);
  return CUDA_SUCCESS;
}

CUresult cuMemCreate(
    CUmemGenericAllocationHandle* handle,
    size_t bytes,
    const CUmemAllocationProp* kind,
    uint64_t flags) {
  if (bytes == 0 || bytes % kPage != 0 || flags != 0 || kind->requestedHandleTypes != 0 ||
      kind->type != CU_MEM_ALLOCATION_TYPE_PINNED || !on_host(kind->location)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const cuda_emulation::Machine& machine = cuda_emulation::machine();
  if (!machine.host_memory_of_driver) return CUDA_ERROR_NOT_SUPPORTED;
  if (static_cast<int64_t>(bytes) > machine.most_host_memory) return CUDA_ERROR_OUT_OF_MEMORY;
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  *handle = ++s.last_handle;
  s.handles[*handle] = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  return s.handles.erase(handle) == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemMap(
    CUdeviceptr begin,
    size_t bytes,
    size_t offset,
    CUmemGenericAllocationHandle handle,
    uint64_t flags) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  Range* range = range_of(s, begin, bytes);
  const auto memory = s.handles.find(handle);
  if (range == nullptr || memory == s.handles.end() || offset != 0 || flags != 0 ||
      memory->second != bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  range->mapped += bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr begin, size_t bytes) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  const auto found = s.ranges.find(begin);
  if (found == s.ranges.end() || found->second.mapped != bytes) return CUDA_ERROR_INVALID_VALUE;
  found->second.mapped = 0;
  cuda_emulation::pinned_memory().remove(pointer_to(begin));
  mprotect(pointer_to(begin), bytes, PROT_NONE);
  return CUDA_SUCCESS;
}

CUresult cuMemSetAccess(
    CUdeviceptr begin, size_t bytes, const CUmemAccessDesc* access, size_t count) {
  State& s = state();
  const std::lock_guard<std::mutex> lock(s.mu);
  const auto found = s.ranges.find(begin);
  if (found == s.ranges.end() || found->second.mapped != bytes) return CUDA_ERROR_INVALID_VALUE;
  for (size_t i = 0; i < count; ++i) {
    if (access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) return CUDA_ERROR_INVALID_VALUE;
    if (access[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE) {
      cuda_emulation::pinned_memory().add(pointer_to(begin), bytes);
    } else if (!on_host(access[i].location)) {
      return CUDA_ERROR_INVALID_VALUE;
    } else if (mprotect(pointer_to(begin), bytes, PROT_READ | PROT_WRITE) != 0) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  return CUDA_SUCCESS;
}

// What the driver finds by name.
cudaError_t cudaGetDriverEntryPointByVersion(
    const char* symbol,
    void** function,
    unsigned,
    uint64_t,
    cudaDriverEntryPointQueryResult* result) {
  static const std::map<std::string, void*> functions = {
      {"cuGetErrorName", reinterpret_cast<void*>(cuGetErrorName)},
      {"cuDeviceGetAttribute", reinterpret_cast<void*>(cuDeviceGetAttribute)},
      {"cuMemGetAllocationGranularity", reinterpret_cast<void*>(cuMemGetAllocationGranularity)},
      {"cuMemAddressReserve", reinterpret_cast<void*>(cuMemAddressReserve)},
      {"cuMemAddressFree", reinterpret_cast<void*>(cuMemAddressFree)},
      {"cuMemCreate", reinterpret_cast<void*>(cuMemCreate)},
      {"cuMemRelease", reinterpret_cast<void*>(cuMemRelease)},
      {"cuMemMap", reinterpret_cast<void*>(cuMemMap)},
      {"cuMemUnmap", reinterpret_cast<void*>(cuMemUnmap)},
      {"cuMemSetAccess", reinterpret_cast<void*>(cuMemSetAccess)},
  };
  const auto found = functions.find(symbol);
  *result =
      found != functions.end() ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  if (found != functions.end()) *function = found->second;
  return cudaSuccess;
}

#include <cuda.h>

#include <algorithm>
#include <string>
#include <utility>

#include "memory/device/cuda_handle.h"
#include "memory/device/host_pages.h"
#include "memory/device/host_pages_cuda.h"

namespace engram::memory {
namespace {

constexpr unsigned kSinceVersion = 12020;        // of the first driver with memory on host nodes
constexpr int64_t kSegment = int64_t{64} << 30;  // of one allocation: smaller ones fail alone

// The driver's functions, which programs are not linked with: they also start without a driver.
struct Driver {
  decltype(&cuGetErrorName) error_name = nullptr;
  decltype(&cuDeviceGetAttribute) attribute = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuMemAddressReserve) reserve = nullptr;
  decltype(&cuMemAddressFree) free_address = nullptr;
  decltype(&cuMemCreate) create = nullptr;
  decltype(&cuMemRelease) release = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  bool complete = false;
};

template <typename Function>
bool look_up(const char* name, Function* function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &found, kSinceVersion, cudaEnableDefault, &result);
  if (error != cudaSuccess) cudaGetLastError();  // not sticky: clear it
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return false;
  *function = reinterpret_cast<Function>(found);
  return true;
}

const Driver& driver() {
  static const Driver found = [] {
    Driver d;
    d.complete =
        look_up("cuGetErrorName", &d.error_name) && look_up("cuDeviceGetAttribute", &d.attribute) &&
        look_up("cuMemGetAllocationGranularity", &d.granularity) &&
        look_up("cuMemAddressReserve", &d.reserve) &&
        look_up("cuMemAddressFree", &d.free_address) && look_up("cuMemCreate", &d.create) &&
        look_up("cuMemRelease", &d.release) && look_up("cuMemMap", &d.map) &&
        look_up("cuMemUnmap", &d.unmap) && look_up("cuMemSetAccess", &d.set_access);
    return d;
  }();
  return found;
}

Status refused(const std::string& call, CUresult result) {
  const char* name = nullptr;
  driver().error_name(result, &name);
  const std::string said = call + ": " + (name != nullptr ? name : std::to_string(result));
  return result == CUDA_ERROR_OUT_OF_MEMORY ? resource_exhausted(said) : failed_precondition(said);
}

CUdeviceptr address_of(void* data) {
  return reinterpret_cast<CUdeviceptr>(data);
}

// What unmapping and freeing say is nobody's business any more: a GPU that failed refuses both.
void release_all(void* data, int64_t bytes) {
  driver().unmap(address_of(data), static_cast<size_t>(bytes));
  driver().free_address(address_of(data), static_cast<size_t>(bytes));
}

// Address space, and what of it is mapped from its begin on.
class Mapping {
 public:
  explicit Mapping(int64_t bytes) : bytes_(bytes) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (mapped_ > 0) driver().unmap(begin_, static_cast<size_t>(mapped_));
    if (begin_ != 0) driver().free_address(begin_, static_cast<size_t>(bytes_));
  }

  Status reserve(int64_t alignment) {
    const CUresult reserved = driver().reserve(
        &begin_, static_cast<size_t>(bytes_), static_cast<size_t>(alignment), 0, 0);
    return reserved == CUDA_SUCCESS ? Status() : refused("cuMemAddressReserve", reserved);
  }

  Status fill(const CUmemAllocationProp& kind) {
    while (mapped_ < bytes_) {
      const int64_t more = std::min(kSegment, bytes_ - mapped_);
      CUmemGenericAllocationHandle handle = 0;
      const CUresult created = driver().create(&handle, static_cast<size_t>(more), &kind, 0);
      const std::string what = "cuMemCreate of " + std::to_string(more) + " bytes";
      if (created != CUDA_SUCCESS) return refused(what, created);
      const CUresult mapped = driver().map(
          begin_ + static_cast<CUdeviceptr>(mapped_), static_cast<size_t>(more), 0, handle, 0);
      driver().release(handle);  // the mapping keeps the memory
      if (mapped != CUDA_SUCCESS) return refused("cuMemMap", mapped);
      mapped_ += more;
    }
    return {};
  }

  Status open_to(const CUmemLocation& reader) {
    const CUmemAccessDesc access{.location = reader, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    const CUresult set = driver().set_access(begin_, static_cast<size_t>(bytes_), &access, 1);
    return set == CUDA_SUCCESS ? Status() : refused("cuMemSetAccess", set);
  }

  Buffer take() {
    mapped_ = 0;
    return Buffer(reinterpret_cast<void*>(std::exchange(begin_, 0)), bytes_, release_all);
  }

 private:
  const int64_t bytes_;
  CUdeviceptr begin_ = 0;
  int64_t mapped_ = 0;
};

}  // namespace

Result<Buffer> allocate_host_pages_of_driver(int gpu, int numa_node, int64_t bytes) {
  if (!driver().complete) {
    return failed_precondition("the driver has no host memory of its own (needs CUDA 12.2)");
  }
  const bool any = numa_node < 0;
  int supported = 0;
  const CUresult asked = driver().attribute(
      &supported,
      any ? CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
          : CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
      gpu);
  if (asked != CUDA_SUCCESS || supported == 0) {
    return failed_precondition("this GPU has no host memory of the driver's");
  }
  const CUmemLocation host{
      .type = any ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_HOST_NUMA,
      .id = any ? 0 : numa_node};
  CUmemAllocationProp kind{};
  kind.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  kind.location = host;
  size_t page = 0;
  const CUresult told = driver().granularity(&page, &kind, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  if (told != CUDA_SUCCESS) return refused("cuMemGetAllocationGranularity", told);
  const int64_t page_bytes = static_cast<int64_t>(page);
  if (page_bytes < kHugePage) {
    return failed_precondition("the driver's pages have " + std::to_string(page) + " bytes only");
  }
  Mapping mapping(round_up(bytes, page_bytes));
  ENGRAM_RETURN_IF_ERROR(mapping.reserve(page_bytes));
  ENGRAM_RETURN_IF_ERROR(mapping.fill(kind));
  // Nobody may read it yet, host code neither.
  ENGRAM_RETURN_IF_ERROR(mapping.open_to(host));
  ENGRAM_RETURN_IF_ERROR(mapping.open_to({.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = gpu}));
  return mapping.take();
}

}  // namespace engram::memory

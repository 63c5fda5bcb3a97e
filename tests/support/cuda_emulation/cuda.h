// The driver's vocabulary for g++: what the project uses of virtual memory management, served by
// mmap(). Found instead of the toolkit's header, as cuda_runtime.h is. Memory is reached by host
// code and by kernels only once cuMemSetAccess() said so.
#pragma once

#include <cstddef>
#include <cstdint>

// CUDA's own names and numbers.
enum CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_SUPPORTED = 801,
};
enum CUdevice_attribute {
  CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 141,
  CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 145,
};
enum CUmemLocationType {
  CU_MEM_LOCATION_TYPE_INVALID = 0,
  CU_MEM_LOCATION_TYPE_DEVICE = 1,
  CU_MEM_LOCATION_TYPE_HOST = 2,
  CU_MEM_LOCATION_TYPE_HOST_NUMA = 3,
};
enum CUmemAllocationType { CU_MEM_ALLOCATION_TYPE_INVALID = 0, CU_MEM_ALLOCATION_TYPE_PINNED = 1 };
enum CUmemAllocationGranularity_flags { CU_MEM_ALLOC_GRANULARITY_RECOMMENDED = 1 };
enum CUmemAccess_flags {
  CU_MEM_ACCESS_FLAGS_PROT_NONE = 0,
  CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3,
};
using CUdevice = int;
using CUdeviceptr = uint64_t;
using CUmemGenericAllocationHandle = uint64_t;
struct CUmemLocation {
  CUmemLocationType type;
  int id;
};
struct CUmemAllocationProp {
  CUmemAllocationType type;
  int requestedHandleTypes;
  CUmemLocation location;
};
struct CUmemAccessDesc {
  CUmemLocation location;
  CUmemAccess_flags flags;
};

CUresult cuGetErrorName(CUresult error, const char** name);
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device);
CUresult cuMemGetAllocationGranularity(
    size_t* bytes, const CUmemAllocationProp* kind, CUmemAllocationGranularity_flags option);
CUresult cuMemAddressReserve(
    CUdeviceptr* begin, size_t bytes, size_t alignment, CUdeviceptr wish, uint64_t flags);
CUresult cuMemAddressFree(CUdeviceptr begin, size_t bytes);
CUresult cuMemCreate(
    CUmemGenericAllocationHandle* handle,
    size_t bytes,
    const CUmemAllocationProp* kind,
    uint64_t flags);
CUresult cuMemRelease(CUmemGenericAllocationHandle handle);
CUresult cuMemMap(
    CUdeviceptr begin,
    size_t bytes,
    size_t offset,
    CUmemGenericAllocationHandle handle,
    uint64_t flags);
CUresult cuMemUnmap(CUdeviceptr begin, size_t bytes);
CUresult cuMemSetAccess(
    CUdeviceptr begin, size_t bytes, const CUmemAccessDesc* access, size_t count);

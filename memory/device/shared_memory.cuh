// Shared memory of a block. Kernels declare none themselves: the emulation of the tests has a
// header of this name that fills the memory with NaN first and watches its bounds.
#pragma once

namespace engram::memory::cuda {

// The block's dynamic shared memory, 128-byte aligned; its size is LaunchConfig::shared_bytes.
template <typename T>
__device__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}

// A block's static variable, by type and name: shared<float[32], struct PartialSums>(). Without a
// value until it is written.
template <typename T, typename Name>
__device__ T& shared() {
  __shared__ __align__(16) unsigned char bytes[sizeof(T)];
  return *reinterpret_cast<T*>(bytes);
}

}  // namespace engram::memory::cuda

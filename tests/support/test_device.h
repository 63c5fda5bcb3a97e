// The device that a program's tests run on: a program of the CUDA backend defines TEST_DEVICE_CUDA.
#pragma once

namespace engram::tests {

#ifdef TEST_DEVICE_CUDA
constexpr const char* kDevice = "cuda";
#else
constexpr const char* kDevice = "cpu";
#endif

}  // namespace engram::tests

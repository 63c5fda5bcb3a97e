// The GPU that tests run on where there is one.
#pragma once

#include <catch2/catch.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "memory/device/device_cuda.h"

namespace engram::tests {

// Null once it has printed why there is none; ctest then reports the test as skipped.
inline std::unique_ptr<memory::Device> gpu_or_note(bool time_waits = false) {
  memory::Result<std::unique_ptr<memory::Device>> device = memory::make_cuda_device(0, time_waits);
  if (device.ok()) return std::move(device).value();
  CHECK(device.status().code() == memory::Code::kFailedPrecondition);
  CHECK(device.status().message().find("CUDA") != std::string::npos);
  std::printf("SKIPPED: %s\n", device.status().to_string().c_str());
  return nullptr;
}

}  // namespace engram::tests

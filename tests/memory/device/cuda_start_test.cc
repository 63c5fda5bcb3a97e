// What stands in the way of a GPU is said in one line that names it, what was found and what helps.
// Under emulation only, whose machine can be made to refuse.
#include <catch2/catch.hpp>
#include <string>

#include "memory/device/device_cuda.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"

namespace engram::memory {
namespace {

using cuda_emulation::Machine;

std::string refusal_on(const Machine& machine, int index = 0) {
  cuda_emulation::machine() = machine;
  const Status status = make_cuda_device(index).status();
  cuda_emulation::machine() = {};
  CHECK(status.code() == Code::kFailedPrecondition);
  CHECK(status.message().find('\n') == std::string::npos);
  return status.message();
}

TEST_CASE("a machine without a usable GPU is told what is missing", "[cuda]") {
  using Catch::Contains;
  REQUIRE(make_cuda_device(0).ok());
  const Machine no_driver = {.count_error = cudaErrorInsufficientDriver, .driver_version = 0};
  CHECK_THAT(refusal_on(no_driver), Contains("no NVIDIA driver") && Contains("--gpus all"));
  const Machine old_driver = {.count_error = cudaErrorInsufficientDriver, .driver_version = 12040};
  CHECK_THAT(
      refusal_on(old_driver),
      Contains("up to 12.4") && Contains("needs 13.0") && Contains("update the driver"));
  const Machine none = {.count_error = cudaErrorNoDevice};
  CHECK_THAT(refusal_on(none), Contains("CUDA_VISIBLE_DEVICES"));
  CHECK_THAT(refusal_on({}, 3), Contains("CUDA device 3 does not exist: there are 1"));
  const Machine busy = {.set_device_error = cudaErrorDevicesUnavailable};
  CHECK_THAT(refusal_on(busy), Contains("emulation, sm_90") && Contains("busy"));
  const Machine foreign = {.function_error = cudaErrorNoKernelImageForDevice};
  CHECK_THAT(refusal_on(foreign), Contains("no code for it") && Contains("sm_80"));
  REQUIRE(make_cuda_device(0).ok());
}

}  // namespace
}  // namespace engram::memory

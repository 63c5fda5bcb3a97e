#include "engine/run/backend.h"

#include <utility>

#include "memory/device/device_cuda.h"
#include "memory/table/row_decode_cuda.h"

namespace engram::engine {
namespace {

using memory::Result;

#ifdef ENGRAM_WITH_CUDA
constexpr memory::EnqueueDecode kDecodeRows = memory::enqueue_decode_rows;
Result<std::unique_ptr<memory::Device>> make_gpu(bool time_waits) {
  return memory::make_cuda_device(0, time_waits);
}
Result<std::unique_ptr<Ops>> make_gpu_ops(memory::Device& device, const OpsLimits& limits) {
  return make_cuda_ops(device, limits);
}
#else
constexpr memory::EnqueueDecode kDecodeRows = nullptr;
Result<std::unique_ptr<memory::Device>> make_gpu(bool) {
  return memory::failed_precondition(
      "--device cuda: this build has no CUDA backend; use --device cpu or auto");
}
Result<std::unique_ptr<Ops>> make_gpu_ops(memory::Device&, const OpsLimits&) {
  return make_gpu(false).status();
}
#endif

}  // namespace

Result<Backend> open_backend(const std::string& device, int threads, bool time_waits) {
  Backend backend;
  backend.cuda = device == "cuda";
  if (!backend.cuda) {
    backend.device = memory::make_cpu_device(threads);
    return backend;
  }
  Result<std::unique_ptr<memory::Device>> gpu = make_gpu(time_waits);
  if (!gpu.ok()) return gpu.status();
  backend.device = std::move(gpu).value();
  backend.decode_rows = kDecodeRows;
  return backend;
}

void pin_for(const Backend& backend, memory::TableSetOptions* options) {
  const bool unasked = options->arena.pin == memory::PinPages::kNo;
  if (backend.cuda && unasked) options->arena.pin = memory::PinPages::kTry;
}

Result<std::unique_ptr<Ops>> make_ops(const Backend& backend, const OpsLimits& limits) {
  return backend.cuda ? make_gpu_ops(*backend.device, limits)
                      : make_cpu_ops(*backend.device, limits);
}

}  // namespace engram::engine

// The two backends behind one name: which device computes, and its ops.
#pragma once

#include <memory>
#include <string>

#include "engine/ops/ops.h"
#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/row_decode.h"
#include "memory/table/table_set.h"

namespace engram::engine {

struct Backend {
  bool cuda = false;
  std::unique_ptr<memory::Device> device;
  memory::EnqueueDecode decode_rows = nullptr;  // null: table rows are gathered by the host
};

// `device` is "cpu", "cuda" (the first GPU) or "auto": the CPU, until the CUDA backend has been run
// on a GPU. `threads` are the CPU's, see make_cpu_device(); `time_waits` is the GPU's, see
// make_cuda_device(). FAILED_PRECONDITION says why there is no GPU.
memory::Result<Backend> open_backend(
    const std::string& device, int threads, bool time_waits = false);

// A GPU reads pinned tables where they lie, and the host has to gather the rows of others for it:
// tables for one are pinned, if they can be.
void pin_for(const Backend& backend, memory::TableSetOptions* options);

// The ops of a backend's device. RESOURCE_EXHAUSTED when scratch memory cannot be had.
memory::Result<std::unique_ptr<Ops>> make_ops(const Backend& backend, const OpsLimits& limits);

}  // namespace engram::engine

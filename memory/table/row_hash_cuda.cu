#include <algorithm>

#include "memory/device/cuda_handle.h"
#include "memory/table/row_hash.cuh"
#include "memory/table/row_hash_cuda.h"

namespace engram::memory {
namespace {

constexpr int64_t kThreads = 256;
constexpr int64_t kBlocks = 16;  // beside layers that run meanwhile

__global__ void push_tokens_kernel(
    const DeviceTokenMap map, const int32_t* tokens, int64_t count, int32_t* windows) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    const int32_t raw = tokens[i];
    const bool known = raw >= 0 && raw < map.size;
    int32_t* window = windows + i * kWindow;
    for (int at = 0; at + 1 < kWindow; ++at) window[at] = window[at + 1];
    window[kWindow - 1] = known ? map.canonical[raw] : map.pass_through ? raw : map.pad;
  }
}

__global__ void hash_rows_kernel(
    const RowHash hash, int64_t columns, const int32_t* windows, int64_t total, int64_t* ids) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const int64_t token = i / columns;
    ids[i] = cuda::hashed_row(hash, windows + token * kWindow, i - token * columns);
  }
}

cudaLaunchConfig_t config_for(Stream& stream, int64_t items) {
  cudaLaunchConfig_t config{};
  const int64_t threads = std::min(kThreads, (items + 31) / 32 * 32);
  config.gridDim = dim3(static_cast<unsigned>(std::min(kBlocks, (items + threads - 1) / threads)));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = native_stream(stream);
  return config;
}

}  // namespace

void enqueue_push_tokens(
    Stream& stream,
    const DeviceTokenMap& map,
    const int32_t* tokens,
    int64_t count,
    int32_t* windows) {
  if (count == 0) return;
  const cudaLaunchConfig_t config = config_for(stream, count);
  enqueue_kernel(config, push_tokens_kernel, map, tokens, count, windows);
}

void enqueue_hash_rows(
    Stream& stream,
    const RowHash& hash,
    int64_t columns,
    const int32_t* windows,
    int64_t tokens,
    int64_t* ids) {
  if (tokens * columns == 0) return;
  const cudaLaunchConfig_t config = config_for(stream, tokens * columns);
  enqueue_kernel(config, hash_rows_kernel, hash, columns, windows, tokens * columns, ids);
}

}  // namespace engram::memory

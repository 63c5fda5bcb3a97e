#include <algorithm>

#include "memory/device/cuda_handle.h"
#include "memory/device/shared_memory.cuh"
#include "memory/device/values.cuh"
#include "memory/table/distinct_rows_cuda.h"
#include "memory/table/row_gather.cuh"

namespace engram::memory {
namespace {

using Arrays = DistinctRows::Arrays;

constexpr unsigned kThreads = 512;
constexpr int64_t kBlocks = 32;  // beside layers that run meanwhile
constexpr int kNearSeats = 32;
constexpr unsigned kAll = 0xffffffffu;

// Wanted rows, and seats for them.
struct Wanted {
  const int64_t* ids = nullptr;
  const int32_t* slots = nullptr;
  int64_t count = 0;  // repeats included
  int64_t columns = 0;
  int64_t rows = 0;         // of the table
  uint64_t reciprocal = 0;  // 2^64 / rows, nearly
  uint64_t seats = 0;
};

// A seat for each wanted row. A crowd far from where ids belong sits down anywhere: prompts can be
// made whose rows are neighbours.
__global__ void take_seats_kernel(const Wanted w, const Arrays a) {
  constexpr uint64_t kAnywhere = 0x9e3779b97f4a7c15u;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i == 0) *a.count = 0;
  for (; i < w.count; i += step) {
    const int64_t id = w.ids[i];
    if (id < 0 || id >= w.rows) __trap();
    const int64_t token = i / w.columns;
    const int32_t slot = w.slots[token];
    const unsigned long long name = static_cast<unsigned long long>(id) + 1;  // NOLINT: atomicCAS
    uint64_t seat = __umul64hi(static_cast<uint64_t>(id) * w.reciprocal, w.seats);
    for (int tries = 1;; ++tries) {
      const unsigned long long there = atomicCAS(&a.seats[seat], 0ull, name);  // NOLINT
      if (there == 0) {
        a.spots[seat] = {slot, static_cast<int32_t>(i - token * w.columns)};
        break;
      }
      if (there == name) break;
      ++seat;
      if (tries == kNearSeats) {
        seat = __umul64hi(static_cast<uint64_t>(id) * kAnywhere, w.seats);
      }
      if (seat == w.seats) seat = 0;
    }
    a.seat_of[i] = static_cast<int32_t>(seat);
    a.slot_of[i] = slot;
  }
}

using WarpCounts = int32_t[32];

// Who sits, in the order of the seats within a block's stretch; the seats are free then.
__global__ void __launch_bounds__(kThreads) list_seats_kernel(uint64_t seats, const Arrays a) {
  WarpCounts& counts = cuda::shared<WarpCounts, struct ListCounts>();
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  const uint64_t step = static_cast<uint64_t>(gridDim.x) * blockDim.x;
  for (uint64_t begin = blockIdx.x * blockDim.x; begin < seats; begin += step) {
    const uint64_t seat = begin + threadIdx.x;
    const unsigned long long name = seat < seats ? a.seats[seat] : 0;  // NOLINT: as above
    const unsigned taken = __ballot_sync(kAll, name != 0);
    if (lane == 0) counts[warp] = __popc(taken);
    __syncthreads();
    if (warp == 0) {
      const int32_t own = lane < blockDim.x / 32 ? counts[lane] : 0;
      int32_t sum = own;
      for (unsigned back = 1; back < 32; back *= 2) {
        const int32_t before = __shfl_up_sync(kAll, sum, back);
        if (lane >= back) sum += before;
      }
      const int32_t base = lane == 31 ? atomicAdd(a.count, sum) : 0;
      counts[lane] = __shfl_sync(kAll, base, 31) + sum - own;
    }
    __syncthreads();
    if (name != 0) {
      const int32_t at = counts[warp] + __popc(taken & ((1u << lane) - 1));
      a.listed[at] = {static_cast<int64_t>(name - 1), a.spots[seat]};
      a.seats[seat] = 0;
    }
    __syncthreads();  // the counts are written anew
  }
}

// A warp per wanted row, kPack elements a lane.
template <typename T, int kPack>
__global__ void repeat_rows_kernel(
    int64_t count, int64_t columns, int64_t width, const View out, const Arrays a) {
  const int64_t lane = threadIdx.x % 32;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  int64_t i = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  for (; i < count; i += warps) {
    const RowSpot from = a.spots[a.seat_of[i]];
    const RowSpot to = {a.slot_of[i], static_cast<int32_t>(i % columns)};
    if (to.slot == from.slot && to.column == from.column) continue;
    const T* source = out.row<T>(from.slot) + from.column * width;
    T* target = out.row<T>(to.slot) + to.column * width;
    for (int64_t c = lane * kPack; c < width; c += 32 * kPack) {
      cuda::store_pack(cuda::load_pack<T, kPack>(source + c), target + c);
    }
  }
}

cudaLaunchConfig_t config_for(Stream& stream, int64_t items, int64_t items_of_block) {
  cudaLaunchConfig_t config{};
  const int64_t blocks = std::min(kBlocks, (items + items_of_block - 1) / items_of_block);
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = native_stream(stream);
  return config;
}

int64_t wanted_rows(const RowGather& gather) {
  return gather.tokens * gather.geometry->columns();
}

}  // namespace

void enqueue_list_rows(Stream& stream, const RowGather& gather, const DistinctRows& rows) {
  const int64_t count = wanted_rows(gather);
  ENGRAM_CHECK(count <= rows.most_rows());
  ENGRAM_CHECK(gather.ids != nullptr);
  const uint64_t table_rows = static_cast<uint64_t>(gather.geometry->rows);
  const Wanted wanted{
      .ids = gather.ids,
      .slots = gather.slots,
      .count = count,
      .columns = gather.geometry->columns(),
      .rows = gather.geometry->rows,
      .reciprocal = UINT64_MAX / table_rows,
      .seats = static_cast<uint64_t>(DistinctRows::kSeatsPerRow * count)};
  const Arrays arrays = rows.arrays();
  enqueue_kernel(config_for(stream, count, kThreads), take_seats_kernel, wanted, arrays);
  enqueue_kernel(
      config_for(stream, DistinctRows::kSeatsPerRow * count, kThreads), list_seats_kernel,
      wanted.seats, arrays);
}

void enqueue_repeat_rows(Stream& stream, const RowGather& gather, const DistinctRows& rows) {
  const int64_t count = wanted_rows(gather);
  const int64_t width = gather.geometry->row_width;
  const int64_t columns = gather.geometry->columns();
  const cudaLaunchConfig_t config = config_for(stream, count, kThreads / 32);
  const Arrays arrays = rows.arrays();
  const bool wide = cuda::goes_to_whole_16_bytes(gather);
  with_activation_type(gather.out.dtype, [&]<typename T>(Type<T>) {
    constexpr int kPack = static_cast<int>(16 / sizeof(T));
    const auto kernel = wide ? repeat_rows_kernel<T, kPack> : repeat_rows_kernel<T, 1>;
    enqueue_kernel(config, kernel, count, columns, width, gather.out, arrays);
  });
}

}  // namespace engram::memory

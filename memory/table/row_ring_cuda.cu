// Rows on their way through shared memory: each warp keeps two stages of some rows, one on its way
// while the other is decoded. Bytes on their way take no registers and no waiting threads, so a few
// blocks keep as much in flight as the link's delay needs.
#include <algorithm>

#include "memory/device/async_copy.cuh"
#include "memory/device/bulk_copy.cuh"
#include "memory/device/cuda_handle.h"
#include "memory/device/shared_memory.cuh"
#include "memory/table/row_ring.h"

namespace engram::memory {
namespace {

using cuda::GatherArgs;
using cuda::RowWay;

constexpr int kStages = 2;
constexpr int kMostRows = 32;   // of a stage: a lane each
constexpr int kWarps = 8;       // of a block
constexpr int64_t kBlocks = 8;  // of 64 KiB on their way each: seven times a link's delay
constexpr int64_t kStageBytes = 4096;
constexpr int64_t kLongestRow = 8192;
constexpr int kScaleLoads = 16;  // bytes of scales a lane holds

// What a warp has in shared memory. Stages are counted over all warps in turn.
struct RingShape {
  int32_t rows = 0;         // of a stage
  int32_t value_bytes = 0;  // of a row
  int32_t scale_bytes = 0;  // of a row
  int32_t warp_bytes = 0;
};

struct Bookkeeping {
  RowWay ways[kStages][kMostRows];
  cuda::CopyBarrier arrived[kStages];
};

__host__ __device__ inline int32_t in_16s(int64_t bytes) {
  return static_cast<int32_t>((bytes + 15) / 16 * 16);
}

// A lane's part in its warp's ring.
template <RowCodec kCodec, typename T, bool kBulk>
class Ring {
 public:
  __device__ Ring(const GatherArgs& a, const RingShape& shape, uint8_t* memory)
      : a_(a),
        shape_(shape),
        lane_(static_cast<int>(threadIdx.x % 32)),
        total_(cuda::rows_to_read(a)),
        book_(reinterpret_cast<Bookkeeping*>(memory)),
        values_(memory + in_16s(sizeof(Bookkeeping))),
        scales_(values_ + kStages * shape.rows * shape.value_bytes) {
    if constexpr (kBulk) {
      if (lane_ < kStages) cuda::init_barrier(&book_->arrived[lane_], 1);
    }
    __syncwarp();
  }

  __device__ bool exists(int64_t stage) const { return stage * shape_.rows < total_; }

  // Begins to read, or hashes, the rows of a stage.
  __device__ void look_up(int64_t stage) {
    const int64_t index = stage * shape_.rows + lane_;
    if (lane_ >= count_of(stage)) return;
    wanted_ = cuda::row_at(a_, index);
  }

  // The stage looked up last sets off, as the warp's turn number `turn`.
  __device__ void start(int64_t stage, unsigned turn) {
    const int count = count_of(stage);
    RowWay* ways = book_->ways[turn % kStages];
    if (lane_ < count) ways[lane_] = cuda::way_of<T>(a_, wanted_);
    __syncwarp();
    copy_values(ways, count, turn);
    load_scales(ways, count);
  }

  // The scales that start() began to load are where finish() of the same stage reads them.
  __device__ void keep_scales() {
    for (int i = 0, at = lane_; i < kScaleLoads; ++i, at += 32) {
      if (at < shape_.rows * shape_.scale_bytes) scales_[at] = held_[i];
    }
    __syncwarp();
  }

  // Waits for the stage's rows and writes them to where they belong. `behind`: the stage after it
  // has set off.
  __device__ void finish(int64_t stage, unsigned turn, bool behind) {
    wait(turn, behind);
    const RowWay* ways = book_->ways[turn % kStages];
    const uint8_t* values = values_of(turn);
    const unsigned parts = static_cast<unsigned>(shape_.value_bytes / 16);  // of a row
    const unsigned all = static_cast<unsigned>(count_of(stage)) * parts;
    for (unsigned i = static_cast<unsigned>(lane_); i < all; i += 32) {
      const unsigned row = i / parts;
      const int64_t first = static_cast<int64_t>(i - row * parts) * cuda::kElements<kCodec>;
      cuda::put_16_bytes<kCodec, T>(
          a_, cuda::load_pack<uint8_t, 16>(values + 16 * i), scales_ + row * shape_.scale_bytes,
          first, static_cast<T*>(ways[row].to));
    }
    __syncwarp();  // what was read may be overwritten
  }

 private:
  __device__ int count_of(int64_t stage) const {
    const int64_t left = total_ - stage * shape_.rows;
    return left >= shape_.rows ? shape_.rows : left > 0 ? static_cast<int>(left) : 0;
  }
  __device__ uint8_t* values_of(unsigned turn) const {
    return values_ + static_cast<int64_t>(turn % kStages) * shape_.rows * shape_.value_bytes;
  }

  __device__ void copy_values(const RowWay* ways, int count, unsigned turn) {
    uint8_t* values = values_of(turn);
    if constexpr (kBulk) {
      cuda::CopyBarrier* arrived = &book_->arrived[turn % kStages];
      const unsigned bytes = static_cast<unsigned>(shape_.value_bytes);
      if (lane_ == 0) cuda::arrive_expecting(arrived, static_cast<unsigned>(count) * bytes);
      __syncwarp();
      if (lane_ < count) {
        cuda::bulk_copy(values + lane_ * shape_.value_bytes, ways[lane_].values, bytes, arrived);
      }
    } else {
      const unsigned parts = static_cast<unsigned>(shape_.value_bytes / 16);
      const unsigned all = static_cast<unsigned>(count) * parts;
      for (unsigned i = static_cast<unsigned>(lane_); i < all; i += 32) {
        const unsigned row = i / parts;
        cuda::copy_16_async(values + 16 * i, ways[row].values + 16 * (i - row * parts), true);
      }
      cuda::commit_copies();
    }
  }

  // Neighbouring lanes read neighbouring bytes: few and short as scales are, each row costs one
  // request.
  __device__ void load_scales(const RowWay* ways, int count) {
    if (shape_.scale_bytes == 0) return;
    const unsigned bytes = static_cast<unsigned>(shape_.scale_bytes);
#pragma unroll
    for (int i = 0; i < kScaleLoads; ++i) {
      const unsigned at = static_cast<unsigned>(lane_ + 32 * i);
      const unsigned row = at / bytes;
      if (row < static_cast<unsigned>(count)) held_[i] = ways[row].scales[at - row * bytes];
    }
  }

  __device__ void wait(unsigned turn, bool behind) {
    if constexpr (kBulk) {
      cuda::wait_for_phase(&book_->arrived[turn % kStages], turn / kStages);
    } else {
      if (behind) {
        cuda::wait_for_copies<1>();
      } else {
        cuda::wait_for_copies<0>();
      }
      __syncwarp();  // the other lanes' copies
    }
  }

  const GatherArgs& a_;
  const RingShape& shape_;
  const int lane_;
  const int64_t total_;
  Bookkeeping* const book_;
  uint8_t* const values_;
  uint8_t* const scales_;
  ListedRow wanted_;
  uint8_t held_[kScaleLoads] = {};
};

template <RowCodec kCodec, typename T, bool kBulk>
__global__ void __launch_bounds__(32 * kWarps) ring_rows_kernel(
    const __grid_constant__ GatherArgs a, const __grid_constant__ RingShape shape) {
  const int64_t warp = threadIdx.x / 32;
  const int64_t warps = blockDim.x / 32;
  Ring<kCodec, T, kBulk> ring(a, shape, cuda::dynamic_shared<uint8_t>() + warp * shape.warp_bytes);
  int64_t stage = blockIdx.x * warps + warp;
  const int64_t step = gridDim.x * warps;
  if (!ring.exists(stage)) return;
  ring.look_up(stage);
  ring.start(stage, 0);
  ring.look_up(stage + step);
  for (unsigned turn = 0; ring.exists(stage); ++turn, stage += step) {
    const bool more = ring.exists(stage + step);
    ring.keep_scales();
    if (more) {
      ring.start(stage + step, turn + 1);
      ring.look_up(stage + 2 * step);
    }
    ring.finish(stage, turn, more);
  }
}

// Whether this GPU runs code that has bulk copies in it.
template <RowCodec kCodec, typename T>
bool has_bulk_copies() {
  constexpr int kHopper = 90;
  static const bool has = [] {
    cudaFuncAttributes attributes{};
    cuda_ok(cudaFuncGetAttributes(&attributes, ring_rows_kernel<kCodec, T, true>));
    return attributes.ptxVersion >= kHopper;
  }();
  return has;
}

struct RingLaunch {
  RingShape shape;
  unsigned blocks = 0;
  unsigned warps = 0;  // of a block
};

RingLaunch plan_ring(const RowGather& g) {
  const int64_t value_bytes = g.geometry->value_bytes();
  const int64_t scale_bytes = g.geometry->scale_bytes();
  const int64_t total = g.tokens * g.geometry->columns();
  const int64_t most_blocks = g.blocks > 0 ? g.blocks : kBlocks;
  int64_t rows = std::clamp<int64_t>(kStageBytes / value_bytes, 1, kMostRows);
  if (scale_bytes > 0) rows = std::min(rows, 32 * kScaleLoads / scale_bytes);
  // Few rows are spread over all warps.
  rows = std::min(rows, (total + most_blocks * kWarps - 1) / (most_blocks * kWarps));
  const int64_t stages = (total + rows - 1) / rows;
  const int64_t blocks = std::min(most_blocks, stages);
  RingLaunch launch;
  launch.blocks = static_cast<unsigned>(blocks);
  launch.warps = static_cast<unsigned>(std::min<int64_t>(kWarps, (stages + blocks - 1) / blocks));
  launch.shape = {
      .rows = static_cast<int32_t>(rows),
      .value_bytes = static_cast<int32_t>(value_bytes),
      .scale_bytes = static_cast<int32_t>(scale_bytes),
      .warp_bytes = in_16s(sizeof(Bookkeeping)) +
                    static_cast<int32_t>(kStages * rows * value_bytes) +
                    in_16s(rows * scale_bytes)};
  return launch;
}

template <RowCodec kCodec, typename T, bool kBulk>
void launch_ring(Stream& stream, const GatherArgs& args, const RingLaunch& ring) {
  constexpr size_t kWithoutAsking = 48 << 10;
  const size_t bytes = static_cast<size_t>(ring.warps) * static_cast<size_t>(ring.shape.warp_bytes);
  const auto kernel = ring_rows_kernel<kCodec, T, kBulk>;
  if (bytes > kWithoutAsking) {
    cuda_ok(cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(ring.blocks);
  config.blockDim = dim3(32 * ring.warps);
  config.dynamicSmemBytes = bytes;
  config.stream = native_stream(stream);
  enqueue_kernel(config, kernel, args, ring.shape);
}

template <RowCodec kCodec>
void launch_as(Stream& stream, const RowGather& g, const GatherArgs& args) {
  const RingLaunch ring = plan_ring(g);
  with_activation_type(args.out.dtype, [&]<typename T>(Type<T>) {
    if (g.kernel == RowKernel::kBulk && has_bulk_copies<kCodec, T>()) {
      launch_ring<kCodec, T, true>(stream, args, ring);
    } else {
      launch_ring<kCodec, T, false>(stream, args, ring);
    }
  });
}

}  // namespace

bool enqueue_ring(Stream& stream, const RowGather& gather, const GatherArgs& args) {
  const TableGeometry& g = *gather.geometry;
  if (!in_whole_16_bytes(gather) || g.value_bytes() > kLongestRow ||
      g.scale_bytes() > 32 * kScaleLoads) {
    return false;
  }
  switch (g.codec) {
    case RowCodec::kBf16:
      launch_as<RowCodec::kBf16>(stream, gather, args);
      break;
    case RowCodec::kF16:
      launch_as<RowCodec::kF16>(stream, gather, args);
      break;
    case RowCodec::kF32:
      launch_as<RowCodec::kF32>(stream, gather, args);
      break;
    case RowCodec::kF8Ue8m0:
      launch_as<RowCodec::kF8Ue8m0>(stream, gather, args);
      break;
    case RowCodec::kF8Tensor:
      launch_as<RowCodec::kF8Tensor>(stream, gather, args);
      break;
    case RowCodec::kInt8:
      launch_as<RowCodec::kInt8>(stream, gather, args);
      break;
    case RowCodec::kInt4:
      launch_as<RowCodec::kInt4>(stream, gather, args);
      break;
  }
  return true;
}

}  // namespace engram::memory

#include <algorithm>

#include "memory/device/cuda_handle.h"
#include "memory/table/row_decode_cuda.h"
#include "memory/table/row_gather.cuh"
#include "memory/table/row_ring.h"

namespace engram::memory {
namespace {

using cuda::GatherArgs;

// A few blocks fill a PCIe link and leave the rest of the GPU to the layers that run meanwhile:
// kBlocks * kThreads / 32 rows of 256 bytes in flight are four times what the link's delay needs.
constexpr int64_t kBlocks = 16;
constexpr int kThreads = 1024;

// A warp per row. kWide: 16 stored bytes at a time, of rows that begin at and are made of whole
// ones; else an element at a time.
template <RowCodec kCodec, typename T, bool kWide>
__global__ void __launch_bounds__(kThreads) load_rows_kernel(const GatherArgs a) {
  const int64_t lane = threadIdx.x % 32;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  int64_t index = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  for (const int64_t rows = cuda::rows_to_read(a); index < rows; index += warps) {
    const cuda::RowWay way = cuda::way_of<T>(a, cuda::row_at(a, index));
    T* to = static_cast<T*>(way.to);
    if constexpr (kWide) {
      constexpr int kCount = cuda::kElements<kCodec>;
      for (int64_t c = lane * kCount; c < a.width; c += 32 * kCount) {
        const auto bytes = cuda::load_pack<uint8_t, 16>(way.values + c * cuda::kBits<kCodec> / 8);
        cuda::put_16_bytes<kCodec, T>(a, bytes, way.scales, c, to);
      }
    } else {
      for (int64_t c = lane; c < a.width; c += 32) {
        to[c] = cuda::decoded<kCodec, T>(a, way.values, c, way.scales, 0);
      }
    }
  }
}

template <RowCodec kCodec, typename T, bool kWide>
void launch(Stream& stream, const GatherArgs& args, int64_t most_blocks) {
  const int64_t rows = args.tokens * args.columns;
  const int64_t rows_of_block = kThreads / 32;
  // Few rows are spread over the blocks rather than packed into the first.
  const int64_t blocks = std::min(rows, most_blocks > 0 ? most_blocks : kBlocks);
  const int64_t warps = std::min(rows_of_block, (rows + blocks - 1) / blocks);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(32 * warps));
  config.stream = native_stream(stream);
  enqueue_kernel(config, load_rows_kernel<kCodec, T, kWide>, args);
}

template <RowCodec kCodec>
void launch_as(Stream& stream, const RowGather& gather, const GatherArgs& args) {
  const bool wide = in_whole_16_bytes(gather);
  with_activation_type(args.out.dtype, [&]<typename T>(Type<T>) {
    if (wide) {
      launch<kCodec, T, true>(stream, args, gather.blocks);
    } else {
      launch<kCodec, T, false>(stream, args, gather.blocks);
    }
  });
}

void enqueue_loads(Stream& stream, const RowGather& gather, const GatherArgs& args) {
  switch (gather.geometry->codec) {
    case RowCodec::kBf16:
      return launch_as<RowCodec::kBf16>(stream, gather, args);
    case RowCodec::kF16:
      return launch_as<RowCodec::kF16>(stream, gather, args);
    case RowCodec::kF32:
      return launch_as<RowCodec::kF32>(stream, gather, args);
    case RowCodec::kF8Ue8m0:
      return launch_as<RowCodec::kF8Ue8m0>(stream, gather, args);
    case RowCodec::kF8Tensor:
      return launch_as<RowCodec::kF8Tensor>(stream, gather, args);
    case RowCodec::kInt8:
      return launch_as<RowCodec::kInt8>(stream, gather, args);
    case RowCodec::kInt4:
      return launch_as<RowCodec::kInt4>(stream, gather, args);
  }
}

}  // namespace

bool in_whole_16_bytes(const RowGather& g) {
  const auto aligned = [](const RowPlace& place) {
    return cuda::whole_16_bytes(place.values) && cuda::whole_16_bytes(place.value_stride);
  };
  return aligned(g.place) && aligned(g.upper) && cuda::whole_16_bytes(g.geometry->value_bytes()) &&
         cuda::goes_to_whole_16_bytes(g);
}

void enqueue_decode_rows(Stream& stream, const RowGather& gather) {
  const TableGeometry& g = *gather.geometry;
  ENGRAM_CHECK(gather.out.cols >= g.vector_width());
  if (gather.tokens * g.columns() == 0 || g.row_width == 0) return;
  ENGRAM_CHECK((gather.ids == nullptr) == (gather.windows != nullptr));
  ENGRAM_CHECK((gather.hash == nullptr) == (gather.windows == nullptr));
  GatherArgs args{
      .place = gather.place,
      .upper = gather.upper,
      .upper_first = gather.upper_first,
      .ids = gather.ids,
      .hash = gather.hash != nullptr ? *gather.hash : RowHash{},
      .windows = gather.windows,
      .slots = gather.slots,
      .tokens = gather.tokens,
      .out = gather.out,
      .rows = g.rows,
      .columns = g.columns(),
      .width = g.row_width,
      .group = g.group,
      .tensor_scale = g.tensor_scale};
  if (gather.distinct != nullptr) {
    enqueue_list_rows(stream, gather, *gather.distinct);
    args.listed = gather.distinct->arrays().listed;
    args.listed_count = gather.distinct->arrays().count;
  }
  const bool through_ring =
      gather.kernel != RowKernel::kLoads && enqueue_ring(stream, gather, args);
  if (!through_ring) enqueue_loads(stream, gather, args);
  if (gather.distinct != nullptr) enqueue_repeat_rows(stream, gather, *gather.distinct);
}

}  // namespace engram::memory

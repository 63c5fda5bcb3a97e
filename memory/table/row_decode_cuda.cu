#include <algorithm>
#include <cstring>

#include "memory/device/cuda_handle.h"
#include "memory/device/values.cuh"
#include "memory/table/row_decode_cuda.h"

namespace engram::memory {
namespace {

using cuda::narrow;
using cuda::Pack;
using cuda::widen;

struct Args {
  RowPlace place;
  RowPlace upper;
  int64_t upper_first = 0;
  const int64_t* ids = nullptr;
  const int32_t* slots = nullptr;
  int64_t tokens = 0;
  View out;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t width = 0;
  int64_t group = 0;  // of kInt8 and kInt4
  float tensor_scale = 1.f;
};

// Bits of the stored element, and how one is read out of stored bytes.
template <RowCodec kCodec>
constexpr int kBits = kCodec == RowCodec::kF32                                ? 32
                      : kCodec == RowCodec::kBf16 || kCodec == RowCodec::kF16 ? 16
                      : kCodec == RowCodec::kInt4                             ? 4
                                                                              : 8;

template <typename T>
__device__ T stored(const uint8_t* bytes) {
  T value;
  memcpy(&value, bytes, sizeof(T));
  return value;
}

// Element i of what begins at `bytes`, without its scale.
template <RowCodec kCodec>
__device__ float element(const uint8_t* bytes, int64_t i) {
  if constexpr (kCodec == RowCodec::kF32) {
    return stored<float>(bytes + 4 * i);
  } else if constexpr (kCodec == RowCodec::kBf16) {
    return widen(stored<Bf16>(bytes + 2 * i));
  } else if constexpr (kCodec == RowCodec::kF16) {
    return widen(stored<F16>(bytes + 2 * i));
  } else if constexpr (kCodec == RowCodec::kInt8) {
    return static_cast<float>(static_cast<int8_t>(bytes[i]));
  } else if constexpr (kCodec == RowCodec::kInt4) {
    const int nibble = bytes[i / 2] >> (4 * (i % 2)) & 15;
    return static_cast<float>((nibble ^ 8) - 8);
  } else {
    return cuda::widen_e4m3(bytes[i]);
  }
}

// The scale of element i of the row.
template <RowCodec kCodec>
__device__ float scale_of(const Args& a, const uint8_t* scales, int64_t i) {
  if constexpr (kCodec == RowCodec::kF8Ue8m0) {
    return cuda::widen_e8m0(scales[i / 32]);
  } else if constexpr (kCodec == RowCodec::kF8Tensor) {
    return a.tensor_scale;
  } else {
    static_assert(kCodec == RowCodec::kInt8 || kCodec == RowCodec::kInt4);
    return widen(stored<F16>(scales + 2 * (i / a.group)));
  }
}

template <RowCodec kCodec, typename T>
__device__ T
decoded(const Args& a, const uint8_t* values, int64_t i, const uint8_t* scales, int64_t first) {
  constexpr bool kCopied =
      (kCodec == RowCodec::kF32 && sizeof(T) == 4) || (kCodec == RowCodec::kBf16 && sizeof(T) == 2);
  if constexpr (kCopied) {
    return stored<T>(values + i * static_cast<int64_t>(sizeof(T)));
  } else if constexpr (kBits<kCodec> <= 8) {
    return narrow<T>(element<kCodec>(values, i) * scale_of<kCodec>(a, scales, first + i));
  } else {
    return narrow<T>(element<kCodec>(values, i));
  }
}

// A warp per row. kWide: 16 stored bytes at a time, of rows that begin at and are made of whole
// ones; else an element at a time.
template <RowCodec kCodec, typename T, bool kWide>
__global__ void decode_rows_kernel(const Args a) {
  const int64_t lane = threadIdx.x % 32;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  int64_t index = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  for (; index < a.tokens * a.columns; index += warps) {
    const int64_t id = a.ids[index];
    const int32_t slot = a.slots[index / a.columns];
    if (id < 0 || id >= a.rows || slot < 0 || slot >= a.out.rows) __trap();
    const bool upper = id >= a.upper_first;
    const RowPlace& place = upper ? a.upper : a.place;
    const int64_t row = upper ? id - a.upper_first : id;
    const uint8_t* values = place.values + row * place.value_stride;
    const uint8_t* scales = place.scales + row * place.scale_stride;
    T* to = a.out.row<T>(slot) + index % a.columns * a.width;
    if constexpr (kWide) {
      constexpr int kCount = 128 / kBits<kCodec>;  // elements of one access
      constexpr int kFill = static_cast<int>(16 / sizeof(T));
      constexpr int kStore = kCount < kFill ? kCount : kFill;
      for (int64_t c = lane * kCount; c < a.width; c += 32 * kCount) {
        const auto bytes = cuda::load_pack<uint8_t, 16>(values + c * kBits<kCodec> / 8);
        for (int first = 0; first < kCount; first += kStore) {
          Pack<T, kStore> out;
          for (int i = 0; i < kStore; ++i) {
            out.v[i] = decoded<kCodec, T>(a, bytes.v, first + i, scales, c);
          }
          cuda::store_pack<T, kStore>(out, to + c + first);
        }
      }
    } else {
      for (int64_t c = lane; c < a.width; c += 32) {
        to[c] = decoded<kCodec, T>(a, values, c, scales, 0);
      }
    }
  }
}

// A few blocks fill a PCIe link and leave the rest of the GPU to the layers that run meanwhile:
// kBlocks * kThreads / 32 rows of 256 bytes in flight are four times what the link's delay needs.
constexpr int64_t kBlocks = 16;
constexpr int kThreads = 1024;

bool reads_wide(const RowGather& g) {
  const TableGeometry& t = *g.geometry;
  const int64_t act_bytes = dtype_bytes(g.out.dtype);
  const auto whole = [](int64_t bytes) { return bytes % 16 == 0; };
  const auto aligned = [&](const RowPlace& place) {
    return whole(static_cast<int64_t>(reinterpret_cast<uintptr_t>(place.values))) &&
           whole(place.value_stride);
  };
  return aligned(g.place) && aligned(g.upper) && whole(t.value_bytes()) &&
         whole(static_cast<int64_t>(reinterpret_cast<uintptr_t>(g.out.data))) &&
         whole(g.out.stride * act_bytes) && whole(t.row_width * act_bytes);
}

template <RowCodec kCodec, typename T, bool kWide>
void launch(Stream& stream, const Args& args) {
  const int64_t rows = args.tokens * args.columns;
  const int64_t rows_of_block = kThreads / 32;
  // Few rows are spread over the blocks rather than packed into the first.
  const int64_t blocks = std::min(rows, kBlocks);
  const int64_t warps = std::min(rows_of_block, (rows + blocks - 1) / blocks);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(32 * warps));
  config.stream = native_stream(stream);
  cuda_ok(cudaLaunchKernelEx(&config, decode_rows_kernel<kCodec, T, kWide>, args));
}

template <RowCodec kCodec>
void launch_as(Stream& stream, const Args& args, bool wide) {
  with_activation_type(args.out.dtype, [&]<typename T>(Type<T>) {
    if (wide) {
      launch<kCodec, T, true>(stream, args);
    } else {
      launch<kCodec, T, false>(stream, args);
    }
  });
}

}  // namespace

void enqueue_decode_rows(Stream& stream, const RowGather& gather) {
  const TableGeometry& g = *gather.geometry;
  ENGRAM_CHECK(gather.out.cols >= g.vector_width());
  if (gather.tokens * g.columns() == 0 || g.row_width == 0) return;
  const Args args{
      .place = gather.place,
      .upper = gather.upper,
      .upper_first = gather.upper_first,
      .ids = gather.ids,
      .slots = gather.slots,
      .tokens = gather.tokens,
      .out = gather.out,
      .rows = g.rows,
      .columns = g.columns(),
      .width = g.row_width,
      .group = g.group,
      .tensor_scale = g.tensor_scale};
  const bool wide = reads_wide(gather);
  switch (g.codec) {
    case RowCodec::kBf16:
      return launch_as<RowCodec::kBf16>(stream, args, wide);
    case RowCodec::kF16:
      return launch_as<RowCodec::kF16>(stream, args, wide);
    case RowCodec::kF32:
      return launch_as<RowCodec::kF32>(stream, args, wide);
    case RowCodec::kF8Ue8m0:
      return launch_as<RowCodec::kF8Ue8m0>(stream, args, wide);
    case RowCodec::kF8Tensor:
      return launch_as<RowCodec::kF8Tensor>(stream, args, wide);
    case RowCodec::kInt8:
      return launch_as<RowCodec::kInt8>(stream, args, wide);
    case RowCodec::kInt4:
      return launch_as<RowCodec::kInt4>(stream, args, wide);
  }
}

}  // namespace engram::memory

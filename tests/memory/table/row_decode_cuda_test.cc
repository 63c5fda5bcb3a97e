// Rows decoded by the GPU against those decoded by the CPU, bit for bit.
#include "memory/table/row_decode_cuda.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "memory/device/device_cuda.h"

namespace engram::memory {
namespace {

constexpr int kColumns = 3;
constexpr int64_t kRows = 700;
constexpr int64_t kSlots = 9;

TableGeometry make_geometry(RowCodec codec, int64_t width) {
  TableGeometry g;
  g.codec = codec;
  g.tensor_scale = 0.0123f;
  g.row_width = width;
  g.rows = kRows;
  g.moduli.assign(kColumns, kRows / kColumns);
  for (int64_t c = 0; c < kColumns; ++c) g.offsets.push_back(c * (kRows / kColumns));
  return g;
}

// How rows lie: values and scales apart, or a row's together with a gap behind, from some offset.
struct Layout {
  bool interleaved;
  int64_t gap;
  int64_t offset;
};
constexpr Layout kLayouts[] = {
    {false, 0, 0}, {false, 0, 3}, {true, 0, 0}, {true, 5, 2}, {true, 16, 16}};

class Rig {
 public:
  explicit Rig(Device& device) : device_(device), stream_(device.make_stream("rows")) {}

  // Both decodings of the same tokens: of the GPU, then of the CPU. For the GPU, the rows from
  // `cut` on lie elsewhere.
  std::pair<std::vector<uint8_t>, std::vector<uint8_t>> decode(
      const TableGeometry& g,
      const Layout& layout,
      DType dtype,
      std::mt19937& random,
      int64_t cut = kRows) {
    const int64_t value_stride =
        g.value_bytes() + (layout.interleaved ? g.scale_bytes() + layout.gap : 0);
    const int64_t scale_stride = layout.interleaved ? value_stride : g.scale_bytes();
    const int64_t table_bytes = layout.offset + kRows * (value_stride + scale_stride) + 64;
    const Buffer table = device_.allocate_pinned("table", table_bytes).value();
    std::generate_n(table.as<uint8_t>(), table_bytes, [&] { return uint8_t(random()); });
    const uint8_t* values = table.as<uint8_t>() + layout.offset;
    const uint8_t* scales = values + (layout.interleaved ? g.value_bytes() : kRows * value_stride);
    constexpr int64_t kTokens = 7;
    const Buffer ids = device_.allocate_pinned("ids", kTokens * kColumns * 8).value();
    std::generate_n(ids.as<int64_t>(), kTokens * kColumns, [&] { return random() % kRows; });
    ids.as<int64_t>()[0] = 0;
    ids.as<int64_t>()[1] = kRows - 1;
    const Buffer slots = device_.allocate_pinned("slots", kTokens * 4).value();
    const int32_t order[kTokens] = {8, 0, 3, 1, 7, 5, 2};
    std::copy_n(order, kTokens, slots.as<int32_t>());

    const int64_t out_bytes = kSlots * g.vector_width() * dtype_bytes(dtype);
    std::vector<uint8_t> by_gpu(static_cast<size_t>(out_bytes), 0x33);
    std::vector<uint8_t> by_cpu = by_gpu;
    const Buffer out = device_.allocate("out", out_bytes).value();
    device_.copy(*stream_, out.data(), by_gpu.data(), out_bytes);
    RowGather gather{
        .geometry = &g,
        .place =
            {.values = values,
             .scales = g.scale_bytes() > 0 ? scales : nullptr,
             .value_stride = value_stride,
             .scale_stride = scale_stride},
        .ids = ids.as<int64_t>(),
        .slots = slots.as<int32_t>(),
        .tokens = kTokens,
        .out = make_view(out.data(), dtype, kSlots, g.vector_width())};
    const RowPlace whole = gather.place;
    const Buffer lower = device_.allocate_pinned("lower rows", table_bytes).value();
    if (cut < kRows) {
      std::memcpy(lower.data(), table.data(), static_cast<size_t>(table_bytes));
      uint8_t* const begin = lower.as<uint8_t>();
      gather.place.values = begin + (values - table.as<uint8_t>());
      if (whole.scales != nullptr) gather.place.scales = begin + (scales - table.as<uint8_t>());
      for (int64_t row = cut; row < kRows; ++row) {  // rows that are not to be read there
        std::memset(
            begin + (values - table.as<uint8_t>()) + row * value_stride, 0x55,
            static_cast<size_t>(g.value_bytes()));
      }
      gather.upper = whole;
      gather.upper.values += cut * value_stride;
      if (whole.scales != nullptr) gather.upper.scales += cut * scale_stride;
      gather.upper_first = cut;
    }
    enqueue_decode_rows(*stream_, gather);
    device_.copy(*stream_, by_gpu.data(), out.data(), out_bytes);
    stream_->synchronize();
    gather.out.data = by_cpu.data();
    gather.place = whole;
    gather.upper_first = kRows;
    decode_rows(gather);
    return {by_gpu, by_cpu};
  }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
};

template <typename T>
int64_t differences(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  int64_t found = 0;
  for (size_t i = 0; i < a.size(); i += sizeof(T)) {
    T x;
    T y;
    std::memcpy(&x, &a[i], sizeof(T));
    std::memcpy(&y, &b[i], sizeof(T));
    const bool both_nan = std::isnan(static_cast<float>(x)) && std::isnan(static_cast<float>(y));
    if (std::memcmp(&x, &y, sizeof(T)) != 0 && !both_nan) ++found;
  }
  return found;
}

TEST_CASE("the GPU decodes every codec as the CPU does, wherever rows lie", "[row_store]") {
  const Result<std::unique_ptr<Device>> device = make_cuda_device(0);
  if (!device.ok()) {
    std::printf("SKIPPED: %s\n", device.status().to_string().c_str());
    return;
  }
  constexpr uint32_t kSeed = 5;
  std::mt19937 random(kSeed);
  Rig rig(*device.value());
  for (const RowCodec codec : kRowCodecs) {
    for (const int64_t width : {1, 7, 32, 64, 96, 100, 128, 160, 256}) {
      const TableGeometry g = make_geometry(codec, width);
      if (!check_codec(g).ok()) continue;
      for (const Layout& layout : kLayouts) {
        CAPTURE(kSeed, row_codec_name(codec), width, layout.interleaved, layout.gap);
        const auto [gpu, cpu] = rig.decode(g, layout, DType::kBf16, random);
        CHECK(differences<Bf16>(gpu, cpu) == 0);
        const auto [gpu32, cpu32] = rig.decode(g, layout, DType::kF32, random);
        CHECK(differences<float>(gpu32, cpu32) == 0);
        const auto [gpu2, cpu2] = rig.decode(g, layout, DType::kBf16, random, 300);
        CHECK(differences<Bf16>(gpu2, cpu2) == 0);
      }
    }
  }
}

}  // namespace
}  // namespace engram::memory

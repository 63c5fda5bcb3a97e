// Rows decoded by the GPU against those decoded by the CPU, bit for bit.
#include "memory/table/row_decode_cuda.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "memory/device/device_cuda.h"
#include "memory/table/distinct_rows_cuda.h"
#include "tests/support/dies.h"

namespace engram::memory {
namespace {

constexpr int kColumns = 3;
constexpr int64_t kRows = 700;
constexpr RowKernel kKernels[] = {RowKernel::kLoads, RowKernel::kAsync, RowKernel::kBulk};

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

// One gather: of so many tokens, whose rows from `cut` on lie elsewhere, by a kernel.
struct Case {
  Layout layout = {};
  DType dtype = DType::kBf16;
  RowKernel kernel = RowKernel::kLoads;
  int blocks = 0;
  int64_t tokens = 7;
  int64_t cut = kRows;
  int64_t drawn_from = kRows;  // the first rows
  bool distinct = false;       // each row is read once
};

class Rig {
 public:
  explicit Rig(Device& device) : device_(device), stream_(device.make_stream("rows")) {}

  // Both decodings of the same tokens: of the GPU, then of the CPU.
  std::pair<std::vector<uint8_t>, std::vector<uint8_t>> decode(
      const TableGeometry& g, const Case& c, std::mt19937& random) {
    const Layout& layout = c.layout;
    const DType dtype = c.dtype;
    const int64_t cut = c.cut;
    const int64_t tokens = c.tokens;
    const int64_t out_rows = tokens + 2;
    const int64_t value_stride =
        g.value_bytes() + (layout.interleaved ? g.scale_bytes() + layout.gap : 0);
    const int64_t scale_stride = layout.interleaved ? value_stride : g.scale_bytes();
    const int64_t table_bytes = layout.offset + kRows * (value_stride + scale_stride) + 64;
    const Buffer table = device_.allocate_pinned("table", table_bytes).value();
    std::generate_n(table.as<uint8_t>(), table_bytes, [&] { return uint8_t(random()); });
    const uint8_t* values = table.as<uint8_t>() + layout.offset;
    const uint8_t* scales = values + (layout.interleaved ? g.value_bytes() : kRows * value_stride);
    const Buffer ids = device_.allocate_pinned("ids", tokens * kColumns * 8).value();
    std::generate_n(ids.as<int64_t>(), tokens * kColumns, [&] { return random() % c.drawn_from; });
    ids.as<int64_t>()[0] = 0;
    ids.as<int64_t>()[1] = kRows - 1;
    const DistinctRows distinct = DistinctRows::make(device_, tokens * kColumns).value();
    const Buffer slots = device_.allocate_pinned("slots", tokens * 4).value();
    std::vector<int32_t> order(static_cast<size_t>(out_rows));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    std::copy_n(order.begin(), tokens, slots.as<int32_t>());

    const int64_t out_bytes = out_rows * g.vector_width() * dtype_bytes(dtype);
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
        .tokens = tokens,
        .out = make_view(out.data(), dtype, out_rows, g.vector_width()),
        .kernel = c.kernel,
        .blocks = c.blocks,
        .distinct = c.distinct ? &distinct : nullptr};
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

int64_t differences_of(Rig& rig, const TableGeometry& g, const Case& c, std::mt19937& random) {
  const auto [gpu, cpu] = rig.decode(g, c, random);
  return c.dtype == DType::kBf16 ? differences<Bf16>(gpu, cpu) : differences<float>(gpu, cpu);
}

std::unique_ptr<Device> device_or_note() {
  Result<std::unique_ptr<Device>> device = make_cuda_device(0);
  if (device.ok()) return std::move(device).value();
  std::printf("SKIPPED: %s\n", device.status().to_string().c_str());
  return nullptr;
}

TEST_CASE("the GPU decodes every codec as the CPU does, wherever rows lie", "[row_store]") {
  const std::unique_ptr<Device> device = device_or_note();
  if (device == nullptr) return;
  constexpr uint32_t kSeed = 5;
  std::mt19937 random(kSeed);
  Rig rig(*device);
  for (const RowCodec codec : kRowCodecs) {
    for (const int64_t width : {1, 7, 32, 64, 96, 100, 128, 160, 256}) {
      const TableGeometry g = make_geometry(codec, width);
      if (!check_codec(g).ok()) continue;
      for (const Layout& layout : kLayouts) {
        for (const RowKernel kernel : kKernels) {
          CAPTURE(kSeed, row_codec_name(codec), width, layout.interleaved, layout.gap, kernel);
          Case c{.layout = layout, .kernel = kernel};
          CHECK(differences_of(rig, g, c, random) == 0);
          c.cut = 300;
          CHECK(differences_of(rig, g, c, random) == 0);
          c.dtype = DType::kF32;
          CHECK(differences_of(rig, g, c, random) == 0);
        }
      }
    }
  }
}

// Few blocks, so that every warp goes round many times; the last stage is not full.
TEST_CASE("any number of rows arrives through a ring", "[row_store]") {
  const std::unique_ptr<Device> device = device_or_note();
  if (device == nullptr) return;
  constexpr uint32_t kSeed = 6;
  std::mt19937 random(kSeed);
  Rig rig(*device);
  struct Kind {
    RowCodec codec;
    int64_t width;
    int group;
  };
  // The last ones: a row a stage, scales that allow only a few rows a stage, a row too long.
  for (const Kind& kind :
       {Kind{RowCodec::kBf16, 80, 32}, Kind{RowCodec::kF8Ue8m0, 256, 32},
        Kind{RowCodec::kInt4, 96, 16}, Kind{RowCodec::kF32, 2048, 32},
        Kind{RowCodec::kInt8, 1024, 16}, Kind{RowCodec::kF32, 2064, 32}}) {
    TableGeometry g = make_geometry(kind.codec, kind.width);
    g.group = kind.group;
    for (const RowKernel kernel : kKernels) {
      for (const int64_t tokens : {1, 2, 32, 33, 171, 300}) {
        CAPTURE(kSeed, row_codec_name(kind.codec), kind.width, kernel, tokens);
        const Case c{.kernel = kernel, .blocks = 1, .tokens = tokens, .cut = 650};
        CHECK(differences_of(rig, g, c, random) == 0);
      }
    }
  }
}

TEST_CASE("rows that are read once reach every place that wants them", "[row_store]") {
  const std::unique_ptr<Device> device = device_or_note();
  if (device == nullptr) return;
  constexpr uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  Rig rig(*device);
  for (const int64_t width : {7, 64}) {  // through the ring, and by loads whatever is asked for
    for (const RowCodec codec : {RowCodec::kBf16, RowCodec::kF8Ue8m0}) {
      const TableGeometry g = make_geometry(codec, width);
      if (!check_codec(g).ok()) continue;
      for (const RowKernel kernel : kKernels) {
        for (const int64_t tokens : {1, 40, 500}) {
          for (const int64_t drawn_from : {int64_t{1}, int64_t{5}, kRows}) {
            CAPTURE(kSeed, row_codec_name(codec), width, kernel, tokens, drawn_from);
            const Case c{
                .kernel = kernel,
                .tokens = tokens,
                .cut = 300,
                .drawn_from = drawn_from,
                .distinct = true};
            CHECK(differences_of(rig, g, c, random) == 0);
          }
        }
      }
    }
  }
}

// Ids on the device, to be listed.
class Lister {
 public:
  Lister(Device& device, int64_t most)
      : device_(device),
        stream_(device.make_stream("list")),
        rows_(DistinctRows::make(device, most * kColumns).value()) {}

  // Sorted as they are listed.
  std::vector<ListedRow> list(const std::vector<int64_t>& ids, int64_t table_rows) {
    const int64_t tokens = std::ssize(ids) / kColumns;
    TableGeometry g = make_geometry(RowCodec::kBf16, 64);
    g.rows = table_rows;
    const Buffer pinned = device_.allocate_pinned("ids", std::ssize(ids) * 8).value();
    std::copy(ids.begin(), ids.end(), pinned.as<int64_t>());
    const Buffer slots = device_.allocate_pinned("slots", tokens * 4).value();
    for (int64_t t = 0; t < tokens; ++t) {
      slots.as<int32_t>()[t] = static_cast<int32_t>(3 * tokens - t);
    }
    RowGather gather;
    gather.geometry = &g;
    gather.ids = pinned.as<int64_t>();
    gather.slots = slots.as<int32_t>();
    gather.tokens = tokens;
    enqueue_list_rows(*stream_, gather, rows_);
    int32_t count = -1;
    device_.copy(*stream_, &count, rows_.arrays().count, sizeof(count));
    stream_->synchronize();
    REQUIRE(count >= 0);
    REQUIRE(count <= std::ssize(ids));
    std::vector<ListedRow> listed(static_cast<size_t>(count));
    device_.copy(
        *stream_, listed.data(), rows_.arrays().listed,
        count * static_cast<int64_t>(sizeof(ListedRow)));
    stream_->synchronize();
    // Each goes to one of the places that want it.
    for (const ListedRow& row : listed) {
      const int64_t index = (3 * tokens - row.spot.slot) * kColumns + row.spot.column;
      CHECK(ids[static_cast<size_t>(index)] == row.id);
    }
    return listed;
  }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
  DistinctRows rows_;
};

TEST_CASE("each row is listed once, in order but for a few", "[row_store]") {
  const std::unique_ptr<Device> device = device_or_note();
  if (device == nullptr) return;
  constexpr uint32_t kSeed = 8;
  constexpr int64_t kMost = 2000;
  std::mt19937_64 random(kSeed);
  Lister lister(*device, kMost);
  struct Draw {
    int64_t tokens;
    int64_t table_rows;
    int64_t begin;  // of the rows that are wanted, and their end
    int64_t end;
  };
  constexpr int64_t kLarge = int64_t{1} << 37;
  // The last ones: a table of one row, a crowd of neighbours, ids at the table's end.
  for (const Draw& draw :
       {Draw{1, 700, 0, 700}, Draw{kMost, 700, 0, 700}, Draw{kMost, kLarge, 0, kLarge},
        Draw{300, 1, 0, 1}, Draw{kMost, kLarge, 12345, 12345 + 3000},
        Draw{kMost, kLarge, kLarge - 50, kLarge}}) {
    CAPTURE(kSeed, draw.tokens, draw.table_rows, draw.begin);
    std::vector<int64_t> ids(static_cast<size_t>(draw.tokens * kColumns));
    for (int64_t& id : ids) {
      id = draw.begin +
           static_cast<int64_t>(random() % static_cast<uint64_t>(draw.end - draw.begin));
    }
    const std::vector<ListedRow> listed = lister.list(ids, draw.table_rows);
    std::vector<int64_t> got;
    for (const ListedRow& row : listed) got.push_back(row.id);
    int64_t backward = 0;
    for (size_t i = 1; i < got.size(); ++i) backward += got[i] < got[i - 1] ? 1 : 0;
    std::sort(got.begin(), got.end());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    CHECK(got == ids);
    // Evenly spread ones sit where they belong, or near.
    const bool spread = draw.begin == 0 && draw.end == kLarge;
    if (spread) CHECK(backward < std::ssize(got) / 3);
  }
}

TEST_CASE("a row that does not exist stops every kernel", "[row_store]") {
  for (const RowKernel kernel : kKernels) {
    for (const auto& [bad, once] : std::vector<std::pair<int64_t, bool>>{
             {-1, false}, {kRows, false}, {-1, true}, {kRows, true}}) {
      CAPTURE(kernel, bad, once);
      CHECK(tests::dies([=] {
        const std::unique_ptr<Device> device = make_cuda_device(0).value();
        const std::unique_ptr<Stream> stream = device->make_stream("rows");
        const TableGeometry g = make_geometry(RowCodec::kBf16, 64);
        const Buffer table = device->allocate_pinned("table", kRows * 128).value();
        const Buffer ids = device->allocate_pinned("ids", kColumns * 8).value();
        ids.as<int64_t>()[1] = bad;
        const Buffer slots = device->allocate_pinned("slots", 4).value();
        const Buffer out = device->allocate("out", kColumns * 128).value();
        const DistinctRows distinct = DistinctRows::make(*device, kColumns).value();
        enqueue_decode_rows(
            *stream, {.geometry = &g,
                      .place = {.values = table.as<uint8_t>(), .value_stride = 128},
                      .ids = ids.as<int64_t>(),
                      .slots = slots.as<int32_t>(),
                      .tokens = 1,
                      .out = make_view(out.data(), DType::kBf16, 1, g.vector_width()),
                      .kernel = kernel,
                      .distinct = once ? &distinct : nullptr});
        stream->synchronize();
      }));
    }
  }
}

}  // namespace
}  // namespace engram::memory

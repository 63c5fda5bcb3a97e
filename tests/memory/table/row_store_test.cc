// Gathers from host memory against the scalar conversions, bit for bit, on every vector target this
// machine can run.
#include "memory/table/row_store.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/simd_targets.h"

namespace engram::memory {
namespace {

TableGeometry make_geometry(RowCodec codec, int columns, int64_t rows_per_column, int64_t width) {
  TableGeometry g;
  g.layer = 3;
  g.codec = codec;
  g.tensor_scale = 0.0123f;
  g.row_width = width;
  g.rows = columns * rows_per_column;
  for (int c = 0; c < columns; ++c) {
    g.moduli.push_back(rows_per_column);
    g.offsets.push_back(c * rows_per_column);
  }
  return g;
}

OwnedTable make_table(const TableGeometry& geometry) {
  Result<OwnedTable> table = make_owned_table(geometry, "7");
  REQUIRE(table.ok());
  return std::move(table).value();
}

void gather_all(
    RowStore& store, const std::vector<int64_t>& ids, const std::vector<int32_t>& slots, View out) {
  std::vector<int32_t> failed;
  const int64_t tokens = static_cast<int64_t>(slots.size());
  CHECK(store.gather(ids.data(), slots.data(), tokens, out, &failed).ok());
  CHECK(failed.empty());
}

void fill_random(const OwnedTable& table, uint32_t seed) {
  const TableGeometry& g = table.store->geometry();
  std::mt19937 random(seed);
  for (int64_t i = 0; i < g.rows * g.value_bytes(); ++i) {
    table.values[i] = static_cast<uint8_t>(random());
  }
  for (int64_t i = 0; i < g.rows * g.scale_bytes(); ++i) {
    table.scales[i] = static_cast<uint8_t>(random());
  }
}

float group_scale(HostRowStore& store, int64_t row, int64_t i) {
  const TableGeometry& g = store.geometry();
  F16 scale;
  std::memcpy(&scale, store.place().scales + row * g.scale_bytes() + i / g.group * 2, 2);
  return half_to_float(scale);
}

float naive(HostRowStore& store, int64_t row, int64_t i) {
  const TableGeometry& g = store.geometry();
  const uint8_t* values = store.place().values + row * g.value_bytes();
  switch (g.codec) {
    case RowCodec::kBf16: {
      Bf16 v;
      std::memcpy(&v, values + 2 * i, 2);
      return static_cast<float>(v);
    }
    case RowCodec::kF16: {
      F16 v;
      std::memcpy(&v, values + 2 * i, 2);
      return half_to_float(v);
    }
    case RowCodec::kF32: {
      float v = 0.f;
      std::memcpy(&v, values + 4 * i, 4);
      return v;
    }
    case RowCodec::kF8Ue8m0: {
      const uint8_t* scales = store.place().scales + row * g.scale_bytes();
      return e4m3_to_float(values[i]) * e8m0_to_float(scales[i / 32]);
    }
    case RowCodec::kF8Tensor:
      return e4m3_to_float(values[i]) * g.tensor_scale;
    case RowCodec::kInt8:
      return static_cast<float>(static_cast<int8_t>(values[i])) * group_scale(store, row, i);
    case RowCodec::kInt4: {
      const int nibble = i % 2 == 0 ? values[i / 2] & 15 : values[i / 2] >> 4;
      return static_cast<float>(nibble < 8 ? nibble : nibble - 16) * group_scale(store, row, i);
    }
  }
  return 0.f;
}

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) ||
         (std::isnan(a) && std::isnan(b));
}

// Gathers and compares everything: what was asked for, and that nothing else was written.
template <typename T>
void check_gather(
    HostRowStore& store, const std::vector<int64_t>& ids, const std::vector<int32_t>& slots) {
  const TableGeometry& g = store.geometry();
  const int64_t width = g.vector_width();
  const int64_t out_rows = static_cast<int64_t>(slots.size()) + 5;
  const T untouched(-3.f);
  std::vector<T> out(static_cast<size_t>(out_rows * width), untouched);
  const DType dtype = sizeof(T) == 4 ? DType::kF32 : DType::kBf16;
  gather_all(store, ids, slots, make_view(out.data(), dtype, out_rows, width));

  std::vector<T> expected(out.size(), untouched);
  for (size_t t = 0; t < slots.size(); ++t) {
    for (int64_t e = 0; e < width; ++e) {
      const int64_t row =
          ids[t * static_cast<size_t>(g.columns()) + static_cast<size_t>(e / g.row_width)];
      expected[static_cast<size_t>(slots[t] * width + e)] = T(naive(store, row, e % g.row_width));
    }
  }
  int64_t wrong = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    if (!same(static_cast<float>(out[i]), static_cast<float>(expected[i]))) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("a gather decodes exactly what was stored", "[row_store]") {
  constexpr uint32_t kSeed = 21;
  CAPTURE(kSeed);
  test::on_each_target([&](int64_t) {
    for (const RowCodec codec : kRowCodecs) {
      for (const int64_t width : {1, 7, 32, 64, 100, 128, 160}) {
        const TableGeometry geometry = make_geometry(codec, 6, 501, width);
        if (!check_codec(geometry).ok()) continue;
        const OwnedTable table = make_table(geometry);
        fill_random(table, kSeed);
        std::mt19937 random(kSeed + 1);
        for (const int tokens : {0, 1, 2, 64}) {
          CAPTURE(row_codec_name(codec), width, tokens);
          std::vector<int64_t> ids;
          std::vector<int32_t> slots;
          for (int t = 0; t < tokens; ++t) {
            slots.push_back((t * 5 + 3) % (tokens + 5));
            for (int c = 0; c < 6; ++c) ids.push_back(c * 501 + random() % 501);
          }
          if (std::gcd(tokens + 5, 5) != 1) {
            for (int t = 0; t < tokens; ++t) slots[static_cast<size_t>(t)] = tokens + 4 - t;
          }
          check_gather<float>(*table.store, ids, slots);
          check_gather<Bf16>(*table.store, ids, slots);
          // The same row for everything, then the last rows of the table.
          std::fill(ids.begin(), ids.end(), 0);
          check_gather<float>(*table.store, ids, slots);
          std::fill(ids.begin(), ids.end(), 6 * 501 - 1);
          check_gather<float>(*table.store, ids, slots);
        }
      }
    }
  });
}

TEST_CASE("every fp8 code with every scale", "[row_store]") {
  test::on_each_target([](int64_t) {
    // Row s: all 256 codes with the scale s.
    const OwnedTable table = make_table(make_geometry(RowCodec::kF8Ue8m0, 1, 256, 256));
    uint8_t* values = table.values;
    uint8_t* scales = table.scales;
    for (int s = 0; s < 256; ++s) {
      for (int code = 0; code < 256; ++code) values[s * 256 + code] = static_cast<uint8_t>(code);
      std::memset(scales + s * 8, s, 8);
    }
    std::vector<int64_t> ids(256);
    std::vector<int32_t> slots(256);
    for (int s = 0; s < 256; ++s) {
      ids[static_cast<size_t>(s)] = s;
      slots[static_cast<size_t>(s)] = s;
    }
    check_gather<float>(*table.store, ids, slots);
    check_gather<Bf16>(*table.store, ids, slots);
  });
}

// Row r begins with the byte r, and others follow in turn: every code in every place. None is a NaN
// of fp8.
void fill_in_turn(const OwnedTable& table) {
  const TableGeometry& g = table.store->geometry();
  const bool fp8 = g.codec == RowCodec::kF8Ue8m0 || g.codec == RowCodec::kF8Tensor;
  for (int64_t r = 0; r < g.rows; ++r) {
    for (int64_t i = 0; i < g.value_bytes(); ++i) {
      const uint8_t code = static_cast<uint8_t>(r + i);
      table.values[r * g.value_bytes() + i] = fp8 && (code & 0x7f) == 0x7f ? code - 1 : code;
    }
  }
}

void check_all_rows(HostRowStore& store) {
  std::vector<int64_t> ids(static_cast<size_t>(store.geometry().rows));
  std::iota(ids.begin(), ids.end(), 0);
  const std::vector<int32_t> slots(ids.begin(), ids.end());
  check_gather<float>(store, ids, slots);
  check_gather<Bf16>(store, ids, slots);
}

TEST_CASE("every finite fp8 code in every place with every scale", "[row_store]") {
  test::on_each_target([](int64_t) {
    for (const int64_t width : {32, 64, 96, 128, 256, 288, 512}) {
      CAPTURE(width);
      const OwnedTable table = make_table(make_geometry(RowCodec::kF8Ue8m0, 1, 256, width));
      fill_in_turn(table);
      const int64_t blocks = width / 32;
      // Blocks that differ, of scales with which all products are normal; then one that is not.
      for (int64_t i = 0; i < 256 * blocks; ++i) {
        table.scales[i] = static_cast<uint8_t>(10 + i * 29 % 237);
      }
      check_all_rows(*table.store);
      for (int64_t r = 0; r < 256; ++r) {
        table.scales[r * blocks + r % blocks] = static_cast<uint8_t>(r);
      }
      check_all_rows(*table.store);
      // One NaN in every row, in another place each time.
      for (int64_t r = 0; r < 256; ++r) table.values[r * width + r * 37 % width] = 0xff;
      check_all_rows(*table.store);
    }
    // All codes with one scale, for every scale.
    const OwnedTable table = make_table(make_geometry(RowCodec::kF8Ue8m0, 1, 256, 256));
    fill_in_turn(table);
    for (int s = 0; s < 256; ++s) std::memset(table.scales + s * 8, s, 8);
    check_all_rows(*table.store);
  });
}

TEST_CASE("every fp8 code in every place with hard scales of a table", "[row_store]") {
  constexpr uint32_t kSeed = 5;
  CAPTURE(kSeed);
  test::on_each_target([&](int64_t) {
    std::mt19937 random(kSeed);
    // Powers of two, products half way between two bf16, the limits, and anything.
    std::vector<float> scales = {1.f,       1.00390625f, 1.01171875f, 0x1.fffffep-7f, 0x1.fefffep3f,
                                 0x1.ffp9f, 0x1p-110f,   0x1p-111f,   0x1.8p-118f,    0x1.8p-130f,
                                 1e-45f,    0x1p110f,    0x1p111f,    0x1.8p119f,     3e38f};
    for (int i = 0; i < 40; ++i) {
      scales.push_back(std::ldexp(1.f + static_cast<float>(random() >> 9) * 0x1p-23f, i - 20));
    }
    for (const int64_t width : {31, 32, 64, 100, 160, 256}) {
      TableGeometry geometry = make_geometry(RowCodec::kF8Tensor, 1, 256, width);
      for (const float scale : scales) {
        CAPTURE(width, scale);
        geometry.tensor_scale = scale;
        const OwnedTable table = make_table(geometry);
        fill_in_turn(table);
        check_all_rows(*table.store);
        for (int64_t r = 0; r < 256; ++r) table.values[r * width + r * 37 % width] = 0x7f;
        check_all_rows(*table.store);
      }
    }
  });
}

TEST_CASE("every integer with every mantissa of a scale", "[row_store]") {
  test::on_each_target([](int64_t) {
    for (const RowCodec codec : {RowCodec::kInt8, RowCodec::kInt4}) {
      CAPTURE(row_codec_name(codec));
      // All numbers of the binade from 1, then some of everything, with zeros, infinities and NaN.
      std::vector<uint16_t> halves(1024);
      std::iota(halves.begin(), halves.end(), uint16_t{0x3c00});
      for (uint32_t half = 0; half < 0x10000; half += 61) {
        halves.push_back(static_cast<uint16_t>(half));
      }
      halves.insert(halves.end(), {0x0001, 0x03ff, 0x7bff, 0x7c00, 0x8000, 0xfc00});
      const int64_t rows = static_cast<int64_t>(halves.size());
      const OwnedTable table = make_table(make_geometry(codec, 1, rows, 256));
      fill_in_turn(table);
      for (int64_t i = 0; i < 8 * rows; ++i) {
        std::memcpy(table.scales + 2 * i, &halves[static_cast<size_t>(i / 8)], 2);
      }
      check_all_rows(*table.store);
    }
  });
}

TEST_CASE("integers in groups of every size", "[row_store]") {
  struct Shape {
    int group;
    int64_t width;
  };
  constexpr Shape kShapes[] = {{16, 16},  {16, 176}, {32, 32},   {32, 256},
                               {32, 352}, {48, 96},  {64, 1024}, {112, 224}};
  constexpr uint32_t kSeed = 8;
  CAPTURE(kSeed);
  test::on_each_target([&](int64_t) {
    for (const RowCodec codec : {RowCodec::kInt8, RowCodec::kInt4}) {
      for (const Shape& shape : kShapes) {
        CAPTURE(row_codec_name(codec), shape.group, shape.width);
        TableGeometry geometry = make_geometry(codec, 1, 256, shape.width);
        geometry.group = shape.group;
        const OwnedTable table = make_table(geometry);
        fill_in_turn(table);
        std::mt19937 random(kSeed);
        const int64_t groups = shape.width / shape.group;
        const auto set_scale = [&](int64_t i, uint32_t half) {
          table.scales[2 * i] = static_cast<uint8_t>(half);
          table.scales[2 * i + 1] = static_cast<uint8_t>(half >> 8);
        };
        for (int64_t i = 0; i < 256 * groups; ++i) set_scale(i, 1 + random() % 0x7bff);
        check_all_rows(*table.store);
        // One scale that is no positive number in every third row.
        for (int64_t r = 0; r < 256; r += 3) {
          constexpr uint32_t kOdd[] = {0x0000, 0x8000, 0xb800, 0x7c00, 0xfc00, 0x7e00};
          set_scale(r * groups + r % groups, kOdd[r / 3 % 6]);
        }
        check_all_rows(*table.store);
      }
    }
  });
}

TEST_CASE("every bf16 and f16 code", "[row_store]") {
  test::on_each_target([](int64_t) {
    for (const RowCodec codec : {RowCodec::kBf16, RowCodec::kF16}) {
      CAPTURE(row_codec_name(codec));
      const OwnedTable table = make_table(make_geometry(codec, 1, 256, 256));
      uint16_t* values = reinterpret_cast<uint16_t*>(table.values);
      for (uint32_t code = 0; code < 0x10000; ++code) values[code] = static_cast<uint16_t>(code);
      std::vector<int64_t> ids(256);
      std::vector<int32_t> slots(256);
      for (int row = 0; row < 256; ++row) {
        ids[static_cast<size_t>(row)] = row;
        slots[static_cast<size_t>(row)] = row;
      }
      check_gather<float>(*table.store, ids, slots);
      check_gather<Bf16>(*table.store, ids, slots);
    }
  });
}

TEST_CASE("a store says where it is and what it read", "[row_store]") {
  const OwnedTable table = make_table(make_geometry(RowCodec::kF8Ue8m0, 4, 40000, 64));
  const HostRowStore* store = table.store.get();
  CHECK_THAT(store->placement(), Catch::StartsWith("host, "));
  CHECK_THAT(store->placement(), Catch::EndsWith(" % huge pages"));
  CHECK(store->version() == "7");
  CHECK(store->place().scales != nullptr);
  const std::vector<int64_t> ids = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> slots = {1, 0};
  std::vector<float> out(2 * 256);
  gather_all(*table.store, ids, slots, make_view(out.data(), DType::kF32, 2, 256));
  CHECK(store->stats().rows_read == 8);
  CHECK(store->stats().bytes_read == 8 * (64 + 2));
}

TEST_CASE("of several copies the nearest is read", "[row_store]") {
  const TableGeometry g = make_geometry(RowCodec::kF32, 2, 50, 8);
  const OwnedTable one = make_table(g);
  const OwnedTable two = make_table(g);
  fill_random(one, 3);
  fill_random(two, 4);
  const OwnedTable* near = &one;
  HostRows rows;
  rows.place = one.store->place();
  rows.nearest = [&near] { return near->store->place(); };
  const std::unique_ptr<HostRowStore> store = make_host_row_store(g, std::move(rows)).value();
  const std::vector<int64_t> ids = {7, 61};
  std::vector<float> got(16);
  std::vector<float> expected(16);
  for (const OwnedTable* copy : {&two, &one}) {
    near = copy;
    gather_all(*store, ids, {0}, make_view(got.data(), DType::kF32, 1, 16));
    gather_all(*copy->store, ids, {0}, make_view(expected.data(), DType::kF32, 1, 16));
    CHECK(std::memcmp(got.data(), expected.data(), 64) == 0);
  }
}

TEST_CASE("a table that cannot be is refused", "[row_store]") {
  const Result<OwnedTable> huge =
      make_owned_table(make_geometry(RowCodec::kF32, 8, int64_t{1} << 36, 64), "");
  REQUIRE_FALSE(huge.ok());
  CHECK(huge.status().code() == Code::kResourceExhausted);
  CHECK_THAT(huge.status().message(), Catch::Contains("n-gram table of layer 3"));

  const Result<OwnedTable> odd = make_owned_table(make_geometry(RowCodec::kF8Ue8m0, 8, 10, 48), "");
  REQUIRE_FALSE(odd.ok());
  CHECK(odd.status().code() == Code::kInvalidArgument);
  CHECK_THAT(odd.status().message(), Catch::Contains("48"));
}

// Takes three tokens at a time and fails those with a negative row.
class ThreeAtATime : public RowStore {
 public:
  explicit ThreeAtATime(TableGeometry geometry) : geometry_(std::move(geometry)) {}

  const TableGeometry& geometry() const override { return geometry_; }
  std::string placement() const override { return "test"; }
  std::string version() const override { return "test"; }
  RowStoreStats stats() const override { return {}; }
  // Tokens of each call.
  const std::vector<int64_t>& calls() const { return calls_; }

 private:
  int64_t most_tokens() const override { return 3; }
  Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      View out,
      std::vector<int32_t>* failed) override {
    calls_.push_back(tokens);
    Status status;
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t row = row_ids[t * geometry_.columns()];
      if (row < 0) {
        failed->push_back(static_cast<int32_t>(t));
        if (status.ok()) status = unavailable("row " + std::to_string(row));
      }
      out.row<float>(slots[t])[0] = static_cast<float>(row);
    }
    return status;
  }

  const TableGeometry geometry_;
  std::vector<int64_t> calls_;
};

TEST_CASE("tokens are counted over all pieces of a gather", "[row_store]") {
  ThreeAtATime store(make_geometry(RowCodec::kF32, 2, 100, 4));
  std::vector<float> values(11 * 8);
  const View out = make_view(values.data(), DType::kF32, 11, 8);
  std::vector<int64_t> ids;
  std::vector<int32_t> slots;
  for (int32_t t = 0; t < 11; ++t) {
    const bool bad = t == 4 || t == 5 || t == 9;
    ids.insert(ids.end(), {bad ? -t : t, 0});
    slots.push_back(10 - t);
  }
  std::vector<int32_t> failed{77};
  const Status status = store.gather(ids.data(), slots.data(), 11, out, &failed);
  CHECK(store.calls() == std::vector<int64_t>{3, 3, 3, 2});
  CHECK(failed == std::vector<int32_t>{77, 4, 5, 9});
  CHECK(status.code() == Code::kUnavailable);
  CHECK(status.message() == "row -4");
  for (size_t t = 0; t < 11; ++t) {
    CHECK(out.row<float>(slots[t])[0] == static_cast<float>(ids[2 * t]));
  }
  CHECK(store.gather(ids.data(), slots.data(), 0, out, &failed).ok());
  CHECK(store.calls().size() == 4);
}

}  // namespace
}  // namespace engram::memory

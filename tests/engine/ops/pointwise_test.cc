// Ops of single rows: norms, sums, rotation, gating and copies.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/support/op_rig.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 20240611;
constexpr float kEps = 1e-6f;

double tolerance(DType dtype) {
  return dtype == DType::kF32 ? 1e-12 : 1.6e-5;  // 2^-16: half a unit of the last bf16 bit
}

struct Shape {
  int64_t rows;
  int64_t cols;
};
constexpr Shape kShapes[] = {{0, 64}, {1, 1}, {1, 16}, {3, 17}, {2, 1000}, {67, 896}, {5, 4099}};
constexpr DType kActivations[] = {DType::kF32, DType::kBf16};

TEST_CASE("rms_norm matches the float64 reference", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      for (const Shape shape : kShapes) {
        CAPTURE(
            backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), shape.rows,
            shape.cols);
        const Rows x = random_rows(random, dtype, shape.rows, shape.cols, 2.0);
        const Rows weight = random_rows(random, DType::kF32, 1, shape.cols, 1.0);
        const Rows expected = reference::rms_norm(x, weight, kEps);
        const View in = rig.put(x, dtype);
        const View w = rig.put(weight, DType::kF32);
        const View out = rig.filled(dtype, shape.rows, shape.cols, 7.0);
        rig.ops().rms_norm(rig.stream(), in, w, kEps, out);
        CHECK(reference::nmse(rig.get(out), expected) < tolerance(dtype));
        rig.ops().rms_norm(rig.stream(), in, w, kEps, in);
        CHECK(rig.bytes(in) == rig.bytes(out));
      }
    }
  }
}

TEST_CASE("rms_norm reads and writes column ranges", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      CAPTURE(backend.name, backend.threads, backend.simd, memory::dtype_name(dtype));
      const Rows x = random_rows(random, dtype, 5, 100, 1.0);
      const Rows weight = random_rows(random, DType::kF32, 1, 37, 1.0);
      const View wide = rig.filled(dtype, 5, 100, 3.0);
      rig.ops().rms_norm(
          rig.stream(), rig.put(x, dtype).col_range(41, 37), rig.put(weight, DType::kF32), kEps,
          wide.col_range(13, 37));
      const Rows out = rig.get(wide);
      const Rows expected = reference::rms_norm(x.col_range(41, 37), weight, kEps);
      CHECK(reference::nmse(out.col_range(13, 37), expected) < tolerance(dtype));
      Rows around(5, 100 - 37);
      for (double& v : around.values) v = 3.0;
      CHECK(out.col_range(0, 13).values == around.col_range(0, 13).values);
      CHECK(out.col_range(50, 50).values == around.col_range(0, 50).values);
    }
  }
}

TEST_CASE("add_rms_norm is add followed by rms_norm, bit for bit", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      for (const Shape shape : kShapes) {
        CAPTURE(
            backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), shape.rows,
            shape.cols);
        const Rows h = random_rows(random, dtype, shape.rows, shape.cols, 1.0);
        const Rows x = random_rows(random, dtype, shape.rows, shape.cols, 1.0);
        const View w = rig.put(random_rows(random, DType::kF32, 1, shape.cols, 1.0), DType::kF32);
        const View added = rig.put(h, dtype);
        const View in = rig.put(x, dtype);
        rig.ops().add(rig.stream(), added, in);
        CHECK(rig.get(added).values == rounded(reference::add(h, x), dtype).values);

        const View sum = rig.put(h, dtype);
        const View normalised = rig.put(x, dtype);
        rig.ops().add_rms_norm(rig.stream(), sum, normalised, w, kEps, normalised);
        CHECK(rig.bytes(sum) == rig.bytes(added));
        const View alone = rig.filled(dtype, shape.rows, shape.cols, 0.0);
        rig.ops().rms_norm(rig.stream(), added, w, kEps, alone);
        CHECK(rig.bytes(normalised) == rig.bytes(alone));
      }
    }
  }
}

TEST_CASE("silu_mul matches the float64 reference", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      for (const Shape shape : kShapes) {
        CAPTURE(
            backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), shape.rows,
            shape.cols);
        const Rows x = random_rows(random, dtype, shape.rows, 2 * shape.cols, 4.0);
        const View out = rig.filled(dtype, shape.rows, shape.cols, 7.0);
        rig.ops().silu_mul(rig.stream(), rig.put(x, dtype), out);
        CHECK(reference::nmse(rig.get(out), reference::silu_mul(x)) < tolerance(dtype));
      }
    }
  }
}

TEST_CASE("silu_mul is right at the ends of the range", "[ops]") {
  const double inf = std::numeric_limits<double>::infinity();
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    Rows x(1, 10);
    const double gates[] = {-1e30, -200.0, 200.0, std::nan(""), inf};
    for (int64_t c = 0; c < 5; ++c) {
      x.at(0, c) = gates[c];
      x.at(0, 5 + c) = 1.0;
    }
    const View out = rig.filled(DType::kF32, 1, 5, 7.0);
    rig.ops().silu_mul(rig.stream(), rig.put(x, DType::kF32), out);
    const Rows y = rig.get(out);
    CHECK(std::abs(y.at(0, 0)) < 1e-5);
    CHECK(std::abs(y.at(0, 1)) < 1e-30);
    CHECK(y.at(0, 2) == 200.0);
    CHECK(std::isnan(y.at(0, 3)));
    CHECK(y.at(0, 4) == inf);
  }
}

TEST_CASE("gather_rows copies rows exactly", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      for (const int64_t count : {0, 1, 7, 300}) {
        CAPTURE(backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), count);
        const Rows x = random_rows(random, dtype, 41, 130, 1.0);
        std::vector<int32_t> rows(static_cast<size_t>(count));
        for (int32_t& r : rows) r = static_cast<int32_t>(random() % 41);
        const View out = rig.filled(dtype, count, 129, 0.0);
        rig.ops().gather_rows(
            rig.stream(), rig.put(x, dtype).col_range(1, 129), rig.put(rows), out);
        const Rows got = rig.get(out);
        for (int64_t i = 0; i < count; ++i) {
          const Rows expected = x.row_range(rows[static_cast<size_t>(i)], 1).col_range(1, 129);
          REQUIRE(got.row_range(i, 1).values == expected.values);
        }
      }
    }
  }
}

// A batch of two sequences, keys and values of which go to scattered pages.
struct RopeCase {
  int64_t q_heads;
  int64_t kv_heads;
  int64_t width;
  int page_tokens;
  bool norm;
};

struct RopeRun {
  Rows qkv;
  Rows keys;  // the whole cache: [pages * Nk * page_tokens, Dh]
  Rows values;
  TestBatch batch;
};

constexpr int64_t kPages = 24;

void check_rope(OpRig& rig, std::mt19937_64& random, const RopeCase& c, DType dtype) {
  CAPTURE(memory::dtype_name(dtype), c.q_heads, c.kv_heads, c.width, c.page_tokens, c.norm);
  const std::vector<int32_t> pages = shuffled_pages(random, kPages);
  TestBatch batch(c.page_tokens);
  batch.add(3, 2 * c.page_tokens, {pages.begin(), pages.begin() + 5});
  batch.add(5 * c.page_tokens, 1, {pages.begin() + 5, pages.begin() + 12});
  const int64_t tokens = batch.tokens();
  const int64_t cols = (c.q_heads + 2 * c.kv_heads) * c.width;
  const Rows qkv = random_rows(random, dtype, tokens, cols, 1.0);
  const Rows q_norm = random_rows(random, DType::kF32, 1, c.width, 1.0);
  const Rows k_norm = random_rows(random, DType::kF32, 1, c.width, 1.0);
  Rows frequencies(1, c.width / 2);
  for (int64_t i = 0; i < c.width / 2; ++i) {
    frequencies.at(0, i) = std::pow(10000.0, -2.0 * static_cast<double>(i) / double(c.width));
  }
  constexpr double kScale = 1.25;

  const View data = rig.put(qkv, dtype);
  const View angles = rig.filled(DType::kF32, tokens, c.width, 0.0);
  const View keys = rig.filled(dtype, kPages * c.kv_heads * c.page_tokens, c.width, 9.0);
  const View values = rig.filled(dtype, keys.rows, c.width, 9.0);
  const engine::KvLayer kv{keys.data,     values.data,     dtype,
                           c.page_tokens, int(c.kv_heads), int(c.width)};
  const engine::Batch device_batch = rig.put(batch);
  rig.ops().rope_angles(
      rig.stream(), device_batch, rig.put(frequencies, DType::kF64), kScale, angles);
  rig.ops().rope_append(
      rig.stream(), device_batch, data, c.norm ? rig.put(q_norm, DType::kF32) : View{},
      c.norm ? rig.put(k_norm, DType::kF32) : View{}, kEps, angles, kv);

  const auto expected = [&](int64_t first, int64_t heads, const Rows& norm) {
    Rows x = qkv.col_range(first * c.width, heads * c.width);
    if (c.norm) {
      for (int64_t head = 0; head < heads; ++head) {
        const Rows y = reference::rms_norm(x.col_range(head * c.width, c.width), norm, kEps);
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t i = 0; i < c.width; ++i) x.at(t, head * c.width + i) = y.at(t, i);
        }
      }
    }
    return reference::rotate(x, batch.positions(), frequencies.values, kScale);
  };
  const Rows q = expected(0, c.q_heads, q_norm);
  CHECK(reference::nmse(rig.get(data).col_range(0, q.cols), q) < tolerance(dtype));

  // Every slot of the cache holds the token's key and value or what it held before.
  const Rows k = expected(c.q_heads, c.kv_heads, k_norm);
  const Rows got_keys = rig.get(keys);
  const Rows got_values = rig.get(values);
  Rows keys_written(tokens, c.kv_heads * c.width);
  std::vector<bool> written(static_cast<size_t>(keys.rows), false);
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t slot = batch.slots()[static_cast<size_t>(t)];
    for (int64_t head = 0; head < c.kv_heads; ++head) {
      const int64_t row =
          (slot / c.page_tokens * c.kv_heads + head) * c.page_tokens + slot % c.page_tokens;
      written[static_cast<size_t>(row)] = true;
      const int64_t v_column = (c.q_heads + c.kv_heads + head) * c.width;
      for (int64_t i = 0; i < c.width; ++i) {
        keys_written.at(t, head * c.width + i) = got_keys.at(row, i);
        REQUIRE(got_values.at(row, i) == qkv.at(t, v_column + i));
      }
    }
  }
  CHECK(reference::nmse(keys_written, k) < tolerance(dtype));
  for (int64_t row = 0; row < keys.rows; ++row) {
    if (written[static_cast<size_t>(row)]) continue;
    REQUIRE(got_keys.at(row, 0) == 9.0);
    REQUIRE(got_values.at(row, c.width - 1) == 9.0);
  }
}

TEST_CASE("rope_append rotates queries and files keys and values", "[ops]") {
  std::mt19937_64 random(kSeed);
  constexpr RopeCase kCases[] = {
      {14, 2, 64, 16, false}, {4, 4, 128, 16, true}, {3, 1, 10, 4, true}, {2, 2, 2, 1, false}};
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    CAPTURE(backend.name, backend.threads, backend.simd);
    for (const DType dtype : kActivations) {
      for (const RopeCase& c : kCases) check_rope(rig, random, c, dtype);
    }
  }
}

TEST_CASE("rope_angles are those of float64 at any position", "[ops]") {
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    TestBatch batch(16);
    std::vector<int32_t> pages(70'000, 0);
    batch.add(0, 3, pages);
    batch.add(1'000'003, 2, pages);
    Rows frequencies(1, 3);
    frequencies.values = {1.0, 0.1234567890123, 1e-5};
    const View angles = rig.filled(DType::kF32, 5, 6, 0.0);
    rig.ops().rope_angles(
        rig.stream(), rig.put(batch), rig.put(frequencies, DType::kF64), 0.5, angles);
    const Rows got = rig.get(angles);
    for (int64_t t = 0; t < 5; ++t) {
      for (int64_t i = 0; i < 3; ++i) {
        const double angle = batch.positions()[static_cast<size_t>(t)] * frequencies.at(0, i);
        CHECK(got.at(t, i) == static_cast<float>(0.5 * std::cos(angle)));
        CHECK(got.at(t, 3 + i) == static_cast<float>(0.5 * std::sin(angle)));
      }
    }
  }
}

// The bits of each op's rows are those the row gets when it is alone.
TEST_CASE("a row's bits depend neither on its neighbours nor on the threads", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const DType dtype : kActivations) {
    constexpr int64_t kRows = 70;
    constexpr int64_t kCols = 1037;
    const Rows x = random_rows(random, dtype, kRows, 2 * kCols, 2.0);
    const Rows h = random_rows(random, dtype, kRows, kCols, 2.0);
    const Rows weight = random_rows(random, DType::kF32, 1, kCols, 1.0);
    // Runs the rows [first, first + count) and gives the bits of all results.
    const auto run = [&](const Backend& backend, int64_t first, int64_t count) {
      OpRig rig(backend);
      const View in = rig.put(x.row_range(first, count), dtype);
      const View w = rig.put(weight, DType::kF32);
      const View sum = rig.put(h.row_range(first, count), dtype);
      const View norm = rig.filled(dtype, count, kCols, 0.0);
      const View gated = rig.filled(dtype, count, kCols, 0.0);
      rig.ops().add_rms_norm(rig.stream(), sum, in.col_range(0, kCols), w, kEps, norm);
      rig.ops().silu_mul(rig.stream(), in, gated);
      std::vector<std::vector<uint8_t>> rows;
      for (int64_t r = 0; r < count; ++r) {
        rows.push_back(rig.bytes(norm.row_range(r, 1)));
        for (const View v : {sum, gated}) {
          const std::vector<uint8_t> more = rig.bytes(v.row_range(r, 1));
          rows.back().insert(rows.back().end(), more.begin(), more.end());
        }
      }
      return rows;
    };
    const auto together = run({"cpu", 1}, 0, kRows);
    CHECK(run({"cpu", 3}, 0, kRows) == together);
    CHECK(run({"cpu", 2}, 40, 1).front() == together[40]);
    const auto few = run({"cpu", 1}, 13, 3);
    CHECK(std::equal(few.begin(), few.end(), together.begin() + 13));
  }
}

}  // namespace
}  // namespace engram::testing

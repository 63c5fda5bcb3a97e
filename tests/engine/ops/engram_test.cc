// The Engram ops: the published golden, float64, and bit equality over chunkings.
#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/op_rig.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 14142135;
constexpr float kGateEps = 1.1920929e-07f;
constexpr float kConvEps = 1e-5f;
constexpr DType kActivations[] = {DType::kF32, DType::kBf16};

double tolerance(DType dtype) {
  return dtype == DType::kF32 ? 1e-12 : 1.6e-5;  // 2^-16: half a unit of the last bf16 bit
}

// Values of the portable generator of the dense golden.
Rows golden_tensor(uint32_t tag, int64_t rows, int64_t cols, bool norm_weight) {
  uint32_t state = tag * 2654435761u + 12345u;
  Rows x(rows, cols);
  for (double& value : x.values) {
    state = state * 1664525u + 1013904223u;
    value = (state >> 8) / 8388608.0 - 1.0;
    if (norm_weight) value = 1.0 + 0.25 * value;
  }
  return x;
}

Rows times_transposed(const Rows& x, const Rows& w) {
  Rows y(x.rows, w.rows);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t n = 0; n < w.rows; ++n) {
      for (int64_t k = 0; k < x.cols; ++k) y.at(t, n) += x.at(t, k) * w.at(n, k);
    }
  }
  return y;
}

void check_close(const Rows& actual, const std::vector<double>& expected) {
  REQUIRE(actual.values.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(actual.values[i] == Approx(expected[i]).margin(2e-6));
  }
}

// T = 5, G = 2, D = 4, E = 6, w = 4, dilation 3: the dense golden of the demo module.
TEST_CASE("gate and convolution reproduce the published numbers", "[ops]") {
  const Rows h = golden_tensor(1, 5, 8, false);
  REQUIRE(h.at(0, 0) == Approx(-0.915533066).margin(1e-9));
  REQUIRE(h.at(0, 2) == Approx(-0.011230469).margin(1e-9));
  const Rows e = golden_tensor(2, 5, 6, false);
  const Rows key = times_transposed(e, golden_tensor(3, 8, 6, false));
  const Rows value = times_transposed(e, golden_tensor(5, 4, 6, false));
  const Rows conv = golden_tensor(10, 8, 4, false);
  for (const Backend& backend : backends()) {
    CAPTURE(backend.name, backend.threads, backend.simd);
    OpRig rig(backend);
    const auto put = [&](const Rows& x) { return rig.put(x, DType::kF32); };
    const View gates = rig.filled(DType::kF32, 5, 2, 0.0);
    const View u = rig.filled(DType::kF32, 5, 8, 0.0);
    rig.ops().engram_gate(
        rig.stream(), put(key), put(value), put(h), View(), put(golden_tensor(7, 2, 4, true)),
        put(golden_tensor(8, 2, 4, true)), kGateEps, gates, u);
    check_close(
        rig.get(gates), {0.226353661, 0.192520847, 0.324526678, 0.297668409, 0.757876957,
                         0.355915310, 0.215231949, 0.430865719, 0.375666178, 0.259714699});
    TestBatch batch(2);
    batch.add(0, 5, {4, 0, 2});
    const View cache = rig.filled(DType::kF32, 10, 8, 100.0);
    const View out = rig.filled(DType::kF32, 5, 8, 0.0);  // h = 0: leaves Y
    rig.ops().short_conv(
        rig.stream(), rig.put(batch), u, put(golden_tensor(9, 2, 4, true)), kConvEps, put(conv), 3,
        {cache.data, DType::kF32, 2, 8}, out);
    const Rows y = rig.get(out);
    check_close(
        y.row_range(0, 1), {0.665446930, -0.091230444, -0.005594901, -0.004953108, 0.535469034,
                            0.009050590, -0.332452399, 0.112847483});
    check_close(
        y.row_range(4, 1), {-0.386146139, 0.554523335, 0.122214832, 0.110393845, -0.333868817,
                            0.590592735, 0.410465659, -0.067386798});
  }
}

struct GateShape {
  int64_t tokens;
  int64_t streams;
  int64_t width;
};

// Key and value are column ranges of one fused projection, as the model has them.
TEST_CASE("engram_gate matches the float64 reference", "[ops]") {
  std::mt19937_64 random(kSeed);
  constexpr GateShape kShapes[] = {{0, 1, 64},   {1, 1, 1},    {3, 4, 33},
                                   {70, 1, 896}, {9, 2, 1024}, {2, 4, 2560}};
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    for (const DType dtype : kActivations) {
      for (const GateShape s : kShapes) {
        CAPTURE(
            backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), s.tokens,
            s.streams);
        CAPTURE(s.width);
        const int64_t cols = s.streams * s.width;
        const Rows fused = random_rows(random, dtype, s.tokens, cols + s.width, 0.7);
        const Rows h = random_rows(random, dtype, s.tokens, cols, 3.0);
        const Rows key_norm = random_rows(random, DType::kF32, s.streams, s.width, 1.0);
        const Rows query_norm = random_rows(random, DType::kF32, s.streams, s.width, 1.0);
        const View in = rig.put(fused, dtype);
        const View gates = rig.filled(DType::kF32, s.tokens, s.streams, 9.0);
        const View u = rig.filled(dtype, s.tokens, cols, 9.0);
        rig.ops().engram_gate(
            rig.stream(), in.col_range(0, cols), in.col_range(cols, s.width), rig.put(h, dtype),
            View(), rig.put(key_norm, DType::kF32), rig.put(query_norm, DType::kF32), kGateEps,
            gates, u);
        const reference::Gated expected = reference::engram_gate(
            fused.col_range(0, cols), fused.col_range(cols, s.width), h, key_norm, query_norm,
            kGateEps);
        CHECK(reference::nmse(rig.get(gates), expected.gates) < 1e-11);
        CHECK(reference::nmse(rig.get(u), expected.u) < tolerance(dtype));
      }
    }
  }
}

TEST_CASE("a gate is a half where the score is zero and never leaves the floor", "[ops]") {
  for (const Backend& backend : backends()) {
    OpRig rig(backend);
    Rows key(3, 2);
    Rows h(3, 2);
    h.values = {1, 1, 1, 1, 1, 1};
    key.values = {0, 0, 1, -1 + 1e-7, 1, -1 - 2e-7};  // zero, just above it, just below it
    const View gates = rig.filled(DType::kF32, 3, 1, 9.0);
    const View ones = rig.filled(DType::kF32, 1, 2, 1.0);
    rig.ops().engram_gate(
        rig.stream(), rig.put(key, DType::kF32), rig.filled(DType::kF32, 3, 2, 1.0),
        rig.put(h, DType::kF32), View(), ones, ones, 0.5f, gates,
        rig.filled(DType::kF32, 3, 2, 0.0));
    const Rows got = rig.get(gates);
    CHECK(got.at(0, 0) == 0.5);
    CHECK(got.at(1, 0) == Approx(reference::sigmoid(1e-3)).epsilon(1e-6));
    CHECK(got.at(2, 0) == Approx(reference::sigmoid(-1e-3)).epsilon(1e-6));
  }
}

TEST_CASE("what is pending is added to h as add() does it, before the gate", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    for (const DType dtype : kActivations) {
      for (const int64_t width : {33, 896}) {
        CAPTURE(backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), width);
        OpRig rig(backend);
        constexpr int64_t kTokens = 5;
        const Rows h = random_rows(random, dtype, kTokens, 2 * width, 2.0);
        const View more = rig.put(random_rows(random, dtype, kTokens, 2 * width, 2.0), dtype);
        const View key = rig.put(random_rows(random, dtype, kTokens, 2 * width, 1.0), dtype);
        const View value = rig.put(random_rows(random, dtype, kTokens, width, 1.0), dtype);
        const View norm = rig.put(random_rows(random, DType::kF32, 2, width, 1.0), DType::kF32);
        const auto gated = [&](View sum, View pending) {
          const View gates = rig.filled(DType::kF32, kTokens, 2, 0.0);
          rig.ops().engram_gate(
              rig.stream(), key, value, sum, pending, norm, norm, kGateEps, gates,
              rig.filled(dtype, kTokens, 2 * width, 0.0));
          return rig.bytes(gates);
        };
        const View added = rig.put(h, dtype);
        rig.ops().add(rig.stream(), added, more);
        const View fused = rig.put(h, dtype);
        CHECK(gated(fused, more) == gated(added, View()));
        CHECK(rig.bytes(fused) == rig.bytes(added));
      }
    }
  }
}

struct ConvShape {
  int64_t streams;
  int64_t width;
  int64_t taps;
  int dilation;
};

struct ConvWeights {
  Rows norm;
  Rows conv;
};

constexpr int kPageTokens = 4;
constexpr int64_t kConvPages = 40;

// Two sequences through one cache, `chunk` tokens of each per step; gives h of the first.
View run_conv(
    OpRig& rig,
    DType dtype,
    const ConvShape& s,
    const ConvWeights& weights,
    const Rows& u,
    const Rows& h,
    int64_t chunk,
    bool with_neighbour) {
  std::mt19937_64 random(kSeed);
  const std::vector<int32_t> pages = shuffled_pages(random, kConvPages);
  const std::vector<int32_t> own(pages.begin(), pages.begin() + kConvPages / 2);
  const std::vector<int32_t> others(pages.begin() + kConvPages / 2, pages.end());
  const int64_t cols = u.cols;
  const View cache = rig.filled(dtype, kConvPages * kPageTokens, cols, std::nan(""));
  const View norm = rig.put(weights.norm, DType::kF32);
  const View conv = rig.put(weights.conv, DType::kF32);
  const View out = rig.filled(dtype, u.rows, cols, 0.0);
  std::vector<int32_t> rows;
  for (int64_t first = 0; first < u.rows; first += chunk) {
    const int64_t count = std::min(chunk, u.rows - first);
    TestBatch batch(kPageTokens);
    Rows step_u = u.row_range(first, count);
    Rows step_h = h.row_range(first, count);
    if (with_neighbour) {
      batch.add(first, count, others);
      step_u = Rows(2 * count, cols);
      step_h = step_u;
      for (int64_t t = 0; t < 2 * count; ++t) {
        for (int64_t c = 0; c < cols; ++c) {
          const bool neighbour = t < count;
          step_u.at(t, c) = neighbour ? 0.25 : u.at(first + t - count, c);
          step_h.at(t, c) = neighbour ? 0.5 : h.at(first + t - count, c);
        }
      }
    }
    batch.add(first, count, own);
    const View in_out = rig.put(step_h, dtype);
    rig.ops().short_conv(
        rig.stream(), rig.put(batch), rig.put(step_u, dtype), norm, kConvEps, conv, s.dilation,
        {cache.data, dtype, kPageTokens, cols}, in_out);
    rows.clear();
    for (int64_t t = 0; t < count; ++t) {
      rows.push_back(static_cast<int32_t>(t + (with_neighbour ? count : 0)));
    }
    rig.ops().gather_rows(rig.stream(), in_out, rig.put(rows), out.row_range(first, count));
  }
  rig.stream().synchronize();
  return out;
}

TEST_CASE("short_conv matches float64, bit for bit in any chunks", "[ops]") {
  std::mt19937_64 random(kSeed);
  constexpr ConvShape kShapes[] = {
      {1, 896, 4, 3}, {4, 40, 4, 3}, {2, 17, 3, 1}, {1, 100, 1, 2}, {1, 64, 7, 5}};
  for (const Backend& backend : backends()) {
    for (const DType dtype : kActivations) {
      for (const ConvShape& s : kShapes) {
        CAPTURE(
            backend.name, backend.threads, backend.simd, memory::dtype_name(dtype), s.streams,
            s.width);
        CAPTURE(s.taps, s.dilation);
        OpRig rig(backend);
        const int64_t cols = s.streams * s.width;
        constexpr int64_t kTokens = 41;
        const Rows u = random_rows(random, dtype, kTokens, cols, 0.5);
        const Rows h = random_rows(random, dtype, kTokens, cols, 1.0);
        const ConvWeights weights{
            random_rows(random, DType::kF32, s.streams, s.width, 1.0),
            random_rows(random, DType::kF32, cols, s.taps, 0.6)};
        const View whole = run_conv(rig, dtype, s, weights, u, h, kTokens, false);
        // The inputs pass through the cache and are rounded there.
        const Rows q = rounded(reference::rms_norm(u, weights.norm, kConvEps), dtype);
        const Rows expected =
            reference::add(h, reference::short_conv(u, q, weights.conv, s.dilation));
        CHECK(reference::nmse(rig.get(whole), expected) < tolerance(dtype));
        const std::vector<uint8_t> bits = rig.bytes(whole);
        for (const int64_t chunk : {1, 3, 7, 41}) {
          CAPTURE(chunk);
          CHECK(rig.bytes(run_conv(rig, dtype, s, weights, u, h, chunk, true)) == bits);
        }
        OpRig other({"cpu", 2, backend.simd});
        CHECK(other.bytes(run_conv(other, dtype, s, weights, u, h, 20, false)) == bits);
      }
    }
  }
}

TEST_CASE("a gate's bits do not depend on its neighbours", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const DType dtype : kActivations) {
    const Rows fused = random_rows(random, dtype, 50, 3 * 700, 1.0);
    const Rows h = random_rows(random, dtype, 50, 2 * 700, 1.0);
    const Rows norm = random_rows(random, DType::kF32, 2, 700, 1.0);
    const auto run = [&](const Backend& backend, int64_t first, int64_t count) {
      OpRig rig(backend);
      const View in = rig.put(fused.row_range(first, count), dtype);
      const View u = rig.filled(dtype, count, 1400, 0.0);
      const View w = rig.put(norm, DType::kF32);
      rig.ops().engram_gate(
          rig.stream(), in.col_range(0, 1400), in.col_range(1400, 700),
          rig.put(h.row_range(first, count), dtype), View(), w, w, kGateEps,
          rig.filled(DType::kF32, count, 2, 0.0), u);
      return rig.get(u);
    };
    const Rows together = run({"cpu", 1}, 0, 50);
    CHECK(run({"cpu", 3}, 0, 50).values == together.values);
    CHECK(run({"cpu", 2}, 31, 1).values == together.row_range(31, 1).values);
  }
}

}  // namespace
}  // namespace engram::testing

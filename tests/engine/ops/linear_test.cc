// Packed matrices and linear layers of the CPU backend against float64 loops, and the promise that
// a row's bits depend on that row alone.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/ops/ops.h"
#include "memory/device/device_cpu.h"
#include "tests/support/simd_targets.h"

namespace engram::engine {
namespace {

using memory::Bf16;
using memory::F16;
using memory::make_view;

constexpr OpsLimits kLimits{
    .max_tokens = 1100, .max_cols = 1000, .max_rows = 1000, .max_context = 64};

// Rows of one dtype, with their values as floats.
struct Rows {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<uint8_t> bytes;
  std::vector<float> values;

  View view() { return make_view(bytes.data(), dtype, rows, cols); }
};

Rows make_rows(DType dtype, int64_t rows, int64_t cols) {
  const size_t count = static_cast<size_t>(rows * cols);
  return {
      dtype, rows, cols, std::vector<uint8_t>(count * memory::dtype_bytes(dtype) + 1),
      std::vector<float>(count)};
}

Rows random_rows(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  Rows r = make_rows(dtype, rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < r.values.size(); ++i) {
    const float v = normal(random);
    if (dtype == DType::kBf16) {
      const Bf16 stored(v);
      std::memcpy(r.bytes.data() + 2 * i, &stored, 2);
      r.values[i] = static_cast<float>(stored);
    } else if (dtype == DType::kF16) {
      const F16 stored = memory::float_to_half(v);
      std::memcpy(r.bytes.data() + 2 * i, &stored, 2);
      r.values[i] = memory::half_to_float(stored);
    } else {
      std::memcpy(r.bytes.data() + 4 * i, &v, 4);
      r.values[i] = v;
    }
  }
  return r;
}

float value_at(const Rows& r, size_t i) {
  if (r.dtype == DType::kF32) {
    float v = 0.f;
    std::memcpy(&v, r.bytes.data() + 4 * i, 4);
    return v;
  }
  Bf16 v;
  std::memcpy(&v, r.bytes.data() + 2 * i, 2);
  return static_cast<float>(v);
}

// A device with its ops and one stream.
class Bench {
 public:
  explicit Bench(int threads) : device_(memory::make_cpu_device(threads)) {
    memory::Result<std::unique_ptr<Ops>> ops = make_cpu_ops(*device_, kLimits);
    REQUIRE(ops.ok());
    ops_ = std::move(ops).value();
    stream_ = device_->make_stream("main");
  }

  Ops& ops() { return *ops_; }
  memory::Device& device() { return *device_; }
  Stream& stream() { return *stream_; }

  Matrix load(Rows& w, int64_t piece) {
    memory::Result<memory::Buffer> buffer =
        device_->allocate("weight", ops_->matrix_bytes(w.dtype, w.rows, w.cols));
    REQUIRE(buffer.ok());
    Matrix matrix{buffer.value().data(), w.rows, w.cols, w.dtype};
    buffers_.push_back(std::move(buffer).value());
    for (int64_t first = 0; first < w.rows; first += piece) {
      const int64_t count = std::min(piece, w.rows - first);
      ops_->load_rows(matrix, first, w.view().row_range(first, count));
    }
    return matrix;
  }

  Rows linear(Rows& x, const Matrix& w, View bias, DType out) {
    Rows y = make_rows(out, x.rows, w.rows);
    ops_->linear(*stream_, x.view(), w, bias, y.view());
    stream_->synchronize();
    return y;
  }

 private:
  std::unique_ptr<memory::Device> device_;
  std::unique_ptr<Ops> ops_;
  std::vector<memory::Buffer> buffers_;
  std::unique_ptr<Stream> stream_;  // goes first: what it runs uses the rest
};

// The square of the largest relative rounding error, 2^-8: a single result may hit it.
constexpr double kBf16Nmse = 1.6e-5;

double linear_nmse(const Rows& x, const Rows& w, const Rows* bias, const Rows& y) {
  double error = 0.;
  double power = 0.;
  for (int64_t m = 0; m < x.rows; ++m) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = bias != nullptr ? double{bias->values[static_cast<size_t>(n)]} : 0.;
      for (int64_t k = 0; k < x.cols; ++k) {
        sum += double{x.values[static_cast<size_t>(m * x.cols + k)]} *
               double{w.values[static_cast<size_t>(n * w.cols + k)]};
      }
      const double got = double{value_at(y, static_cast<size_t>(m * w.rows + n))};
      error += (got - sum) * (got - sum);
      power += sum * sum;
    }
  }
  return power == 0. ? error : error / power;
}

TEST_CASE("linear matches the float64 loop", "[ops][linear]") {
  Bench bench(2);
  const std::vector<int64_t> tokens = {0, 1, 2, 3, 7, 8, 12, 13, 64, 65, 257};
  uint32_t seed = 100;
  for (const DType weight : {DType::kBf16, DType::kF16, DType::kF32}) {
    for (const int64_t n : {1, 31, 33, 1000}) {
      for (const int64_t k : {1, 7, 64, 1000}) {
        Rows w = random_rows(weight, n, k, ++seed);
        Rows bias = random_rows(DType::kF32, 1, n, ++seed);
        const Matrix matrix = bench.load(w, n);
        for (size_t i = 0; i < tokens.size(); ++i) {
          // The largest shapes at some row counts only: the oracle is slow.
          if (n * k > 100000 && tokens[i] > 13 && tokens[i] != 65) continue;
          const DType act = i % 2 == 0 ? DType::kF32 : DType::kBf16;
          const DType out = i % 3 == 0 ? DType::kF32 : act;
          const bool with_bias = (i + static_cast<size_t>(k)) % 2 == 0;
          CAPTURE(
              dtype_name(weight), n, k, tokens[i], dtype_name(act), dtype_name(out), with_bias,
              seed);
          Rows x = random_rows(act, tokens[i], k, seed + 7);
          const Rows y = bench.linear(x, matrix, with_bias ? bias.view() : View(), out);
          CHECK(
              linear_nmse(x, w, with_bias ? &bias : nullptr, y) <
              (out == DType::kF32 ? 1e-11 : kBf16Nmse));
        }
      }
    }
  }
}

// Rows of one batch, each alone, in a few and in many: the same bits.
TEST_CASE("a row's result does not depend on its batch", "[ops][linear]") {
  constexpr uint32_t kSeed = 5;
  CAPTURE(kSeed);
  Bench bench(2);
  for (const DType weight : {DType::kBf16, DType::kF16, DType::kF32}) {
    for (const DType act : {DType::kF32, DType::kBf16}) {
      Rows w = random_rows(weight, 333, 777, kSeed);
      Rows bias = random_rows(DType::kF32, 1, 333, kSeed + 1);
      const Matrix matrix = bench.load(w, 100);
      constexpr int64_t kTokens = 1050;  // more than one chunk of packed rows
      Rows x = random_rows(act, kTokens, 777, kSeed + 2);
      const Rows all = bench.linear(x, matrix, bias.view(), act);
      const size_t row_bytes = 333 * static_cast<size_t>(memory::dtype_bytes(act));
      int64_t first = 0;
      for (const int64_t count : {1, 2, 3, 5, 6, 7, 11, 12, 13, 24, 31, 32, 33, 34, 120, 520}) {
        CAPTURE(dtype_name(weight), dtype_name(act), first, count);
        Rows y = make_rows(act, count, 333);
        bench.ops().linear(
            bench.stream(), x.view().row_range(first, count), matrix, bias.view(), y.view());
        bench.stream().synchronize();
        CHECK(
            std::memcmp(y.bytes.data(), all.bytes.data() + first * row_bytes, count * row_bytes) ==
            0);
        first += count;
      }
    }
  }
}

TEST_CASE("a result does not depend on the number of threads", "[ops][linear]") {
  constexpr uint32_t kSeed = 6;
  CAPTURE(kSeed);
  Rows w = random_rows(DType::kBf16, 500, 600, kSeed);
  for (const int64_t tokens : {1, 9, 80}) {
    Rows x = random_rows(DType::kF32, tokens, 600, kSeed + 1);
    Bench one(1);
    const Rows expected = one.linear(x, one.load(w, 500), View(), DType::kF32);
    for (const int threads : {2, 3, 8}) {
      CAPTURE(tokens, threads);
      Bench bench(threads);
      const Rows y = bench.linear(x, bench.load(w, 500), View(), DType::kF32);
      CHECK(y.bytes == expected.bytes);
    }
  }
}

// The order of the sums is part of the contract: fused, input after input, the bias at the end.
TEST_CASE("a result is a sequential fused sum", "[ops][linear]") {
  constexpr uint32_t kSeed = 7;
  CAPTURE(kSeed);
  Rows w = random_rows(DType::kBf16, 40, 900, kSeed);
  Rows bias = random_rows(DType::kF32, 1, 40, kSeed + 1);
  Rows x = random_rows(DType::kF32, 50, 900, kSeed + 2);
  test::on_each_target([&](int64_t target) {
    const bool fused = target != HWY_SCALAR;
    Bench bench(2);
    const Matrix matrix = bench.load(w, 40);
    const Rows y = bench.linear(x, matrix, bias.view(), DType::kF32);
    Rows first = make_rows(DType::kF32, 1, 40);
    bench.ops().linear(bench.stream(), x.view().row_range(0, 1), matrix, bias.view(), first.view());
    bench.stream().synchronize();
    CHECK(std::memcmp(first.bytes.data(), y.bytes.data(), 40 * sizeof(float)) == 0);
    for (int64_t m = 0; m < 50; ++m) {
      for (int64_t n = 0; n < 40; ++n) {
        float sum = 0.f;
        for (int64_t k = 0; k < 900; ++k) {
          const float a = x.values[static_cast<size_t>(m * 900 + k)];
          const float b = w.values[static_cast<size_t>(n * 900 + k)];
          sum = fused ? std::fma(a, b, sum) : sum + a * b;
        }
        sum += bias.values[static_cast<size_t>(n)];
        REQUIRE(value_at(y, static_cast<size_t>(m * 40 + n)) == sum);
      }
    }
  });
}

// Strided inputs and outputs, as the engine has them: column ranges of wider rows.
TEST_CASE("linear takes rows of wider arrays", "[ops][linear]") {
  Bench bench(2);
  Rows w = random_rows(DType::kF32, 45, 50, 8);
  const Matrix matrix = bench.load(w, 45);
  for (const int64_t tokens : {2, 70}) {
    CAPTURE(tokens);
    Rows wide = random_rows(DType::kBf16, tokens, 130, 9);
    Rows x = make_rows(DType::kBf16, tokens, 50);
    for (int64_t m = 0; m < tokens; ++m) {
      std::memcpy(x.bytes.data() + m * 100, wide.bytes.data() + (m * 130 + 20) * 2, 100);
    }
    const Rows expected = bench.linear(x, matrix, View(), DType::kBf16);
    Rows out = make_rows(DType::kBf16, tokens, 99);
    bench.ops().linear(
        bench.stream(), wide.view().col_range(20, 50), matrix, View(), out.view().col_range(3, 45));
    bench.stream().synchronize();
    for (int64_t m = 0; m < tokens; ++m) {
      CHECK(
          std::memcmp(out.bytes.data() + (m * 99 + 3) * 2, expected.bytes.data() + m * 90, 90) ==
          0);
      // What lies beside the range is untouched.
      CHECK(value_at(out, static_cast<size_t>(m * 99 + 2)) == 0.f);
      CHECK(value_at(out, static_cast<size_t>(m * 99 + 48)) == 0.f);
    }
  }
}

TEST_CASE("every half precision weight is widened exactly", "[ops][linear]") {
  // All finite codes: 2 * 31 * 1024, as a column each.
  Rows w = make_rows(DType::kF16, 992, 64);
  size_t i = 0;
  for (uint32_t code = 0; code < 0x10000; ++code) {
    if (((code >> 10) & 31u) == 31u) continue;
    const F16 stored{static_cast<uint16_t>(code)};
    std::memcpy(w.bytes.data() + 2 * i, &stored, 2);
    w.values[i++] = memory::half_to_float(stored);
  }
  REQUIRE(i == w.values.size());
  test::on_each_target([&](int64_t) {
    Bench bench(1);
    const Matrix matrix = bench.load(w, 1000);
    for (const int64_t tokens : {64, 1}) {
      Rows x = make_rows(DType::kF32, tokens, 64);  // the identity, or its first row
      for (int64_t m = 0; m < tokens; ++m) {
        const float one = 1.f;
        std::memcpy(x.bytes.data() + (m * 64 + m) * 4, &one, 4);
      }
      const Rows y = bench.linear(x, matrix, View(), DType::kF32);
      for (int64_t m = 0; m < tokens; ++m) {
        for (int64_t n = 0; n < 992; ++n) {
          REQUIRE(
              value_at(y, static_cast<size_t>(m * 992 + n)) ==
              w.values[static_cast<size_t>(n * 64 + m)]);
        }
      }
    }
  });
}

TEST_CASE("embed returns the rows as they were loaded, in any pieces", "[ops][embed]") {
  for (const DType weight : {DType::kBf16, DType::kF16, DType::kF32}) {
    for (const int64_t piece : {1, 5, 32, 40, 1000}) {
      CAPTURE(dtype_name(weight), piece);
      Bench bench(2);
      Rows w = random_rows(weight, 131, 77, 10);
      const Matrix matrix = bench.load(w, piece);
      std::vector<int32_t> ids = {0, 130, 31, 32, 33, 64, 64, 127, 128, 1};
      Batch batch;
      batch.tokens = static_cast<int64_t>(ids.size());
      batch.ids = ids.data();
      for (const DType act : {DType::kF32, DType::kBf16}) {
        Rows out = make_rows(act, batch.tokens, 77);
        bench.ops().embed(bench.stream(), matrix, batch, out.view());
        bench.stream().synchronize();
        for (size_t t = 0; t < ids.size(); ++t) {
          for (size_t k = 0; k < 77; ++k) {
            const float expected = w.values[static_cast<size_t>(ids[t]) * 77 + k];
            REQUIRE(
                value_at(out, t * 77 + k) ==
                (act == DType::kBf16 ? static_cast<float>(Bf16(expected)) : expected));
          }
        }
      }
    }
  }
}

TEST_CASE("a matrix takes its shape rounded up to panels", "[ops][linear]") {
  Bench bench(1);
  CHECK(bench.ops().matrix_bytes(DType::kBf16, 1, 7) == 32 * 7 * 2);
  CHECK(bench.ops().matrix_bytes(DType::kF32, 32, 7) == 32 * 7 * 4);
  CHECK(bench.ops().matrix_bytes(DType::kF16, 33, 7) == 64 * 7 * 2);
}

}  // namespace
}  // namespace engram::engine

// Ops that only keep matrices, row-major, exactly as they were loaded: for tests of loading.
#pragma once

#include <cstring>

#include "engine/ops/ops.h"

namespace engram::tests {

class RecordingOps : public engine::Ops {
 public:
  int64_t matrix_bytes(memory::DType dtype, int64_t rows, int64_t cols) const override {
    return rows * cols * memory::dtype_bytes(dtype);
  }
  bool copies_rows() const override { return true; }
  void deliver_samples() override {}

 private:
  using Batch = engine::Batch;
  using ConvLayer = engine::ConvLayer;
  using KvLayer = engine::KvLayer;
  using Matrix = engine::Matrix;
  using Stream = memory::Stream;
  using View = memory::View;

  void do_load_rows(const Matrix& matrix, int64_t first, View source) override {
    const int64_t row_bytes = matrix.cols * memory::dtype_bytes(matrix.dtype);
    for (int64_t i = 0; i < source.rows; ++i) {
      std::memcpy(
          static_cast<char*>(matrix.data) + (first + i) * row_bytes, source.row_range(i, 1).data,
          static_cast<size_t>(row_bytes));
    }
  }

  // Nothing is computed.
  static void unused() { ENGRAM_CHECK(false); }
  void do_embed(Stream&, const Matrix&, const Batch&, View) override { unused(); }
  void do_linear(Stream&, View, const Matrix&, View, View) override { unused(); }
  void do_rms_norm(Stream&, View, View, float, View) override { unused(); }
  void do_add_rms_norm(Stream&, View, View, View, float, View) override { unused(); }
  void do_add(Stream&, View, View) override { unused(); }
  void do_rope_angles(Stream&, const Batch&, View, double, View) override { unused(); }
  void do_rope_append(
      Stream&, const Batch&, View, View, View, float, View, const KvLayer&) override {
    unused();
  }
  void do_attention(Stream&, const Batch&, View, const KvLayer&, float, View) override { unused(); }
  void do_silu_mul(Stream&, View, View) override { unused(); }
  void do_gather_rows(Stream&, View, const int32_t*, View) override { unused(); }
  void do_engram_gate(Stream&, View, View, View, View, View, View, float, View, View) override {
    unused();
  }
  void do_short_conv(
      Stream&, const Batch&, View, View, float, View, int, const ConvLayer&, View) override {
    unused();
  }
  void do_feed_sampled(Stream&, const engine::SampledFeed&) override { unused(); }
  void do_sample(
      Stream&,
      View,
      std::span<const engine::SampleRow>,
      std::span<engine::SampleResult>,
      const engine::SampledIds&) override {
    unused();
  }
};

}  // namespace engram::tests

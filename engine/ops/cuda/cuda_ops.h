// The CUDA backend: every op is one or a few kernels enqueued on the stream. Each op family has its
// own file; this header only holds them together. Included by .cu files only.
//
// Overrides run on the engine thread and enqueue; what kernels get are views, by value. Scratch
// memory belongs to the stream in use, so all ops of one CudaOps go to one stream.
#pragma once

#include <memory>

#include "engine/ops/ops.h"
#include "memory/device/device.h"

namespace engram::engine::cuda {

class Gemm;
class SampleStaging;
struct Linear;

class CudaOps : public Ops {
 public:
  // `device` is a CUDA device and outlives the ops.
  CudaOps(memory::Device& device, const OpsLimits& limits);
  ~CudaOps() override;
  // Takes the scratch memory; once, before the first op.
  memory::Status allocate_scratch();

  // Rows one after the other, as stored.
  int64_t matrix_bytes(DType dtype, int64_t rows, int64_t cols) const override;
  bool copies_rows() const override { return true; }
  // sampling.cu
  void deliver_samples() override;

 private:
  // matrix.cu
  void do_load_rows(const Matrix& matrix, int64_t first, View source) override;
  void do_embed(Stream& stream, const Matrix& table, const Batch& batch, View out) override;

  // linear.cu
  memory::Status allocate_linear_scratch();
  void do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) override;
  void multiply_dequantized(Stream& stream, const Linear& linear);

  // pointwise.cu
  void do_rms_norm(Stream& stream, View x, View weight, float eps, View y) override;
  void do_add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y) override;
  void do_add(Stream& stream, View h, View x) override;
  void do_silu_mul(Stream& stream, View gate_up, View y) override;
  void do_gather_rows(Stream& stream, View x, const int32_t* rows, View out) override;

  // rope.cu
  void do_rope_angles(
      Stream& stream, const Batch& batch, View frequencies, double scale, View angles) override;
  void do_rope_append(
      Stream& stream,
      const Batch& batch,
      View qkv,
      View q_norm,
      View k_norm,
      float eps,
      View angles,
      const KvLayer& kv) override;

  // attention.cu
  memory::Status allocate_attention_scratch();
  void do_attention(
      Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out)
      override;

  // engram.cu
  void do_engram_gate(
      Stream& stream,
      View key,
      View value,
      View h,
      View pending,
      View key_norm,
      View query_norm,
      float eps,
      View gates,
      View u) override;
  void do_short_conv(
      Stream& stream,
      const Batch& batch,
      View u,
      View norm,
      float eps,
      View conv,
      int dilation,
      const ConvLayer& layer,
      View h) override;

  // sampling.cu
  memory::Status allocate_sampling_scratch();
  void do_feed_sampled(Stream& stream, const SampledFeed& feed) override;
  void do_sample(
      Stream& stream,
      View logits,
      std::span<const SampleRow> rows,
      std::span<SampleResult> results,
      const SampledIds& ids) override;

  memory::Device& device_;
  const OpsLimits limits_;
  const std::unique_ptr<memory::Stream> load_stream_;  // of do_load_rows()
  std::unique_ptr<Gemm> gemm_;                         // of do_linear()
  memory::Buffer dequantized_;                         // of do_linear(), a part of an f8_e4m3 W
  std::unique_ptr<SampleStaging> sample_staging_;      // of do_sample()
  memory::Buffer attention_partials_;                  // attention.cuh says what is in these
  memory::Buffer attention_arrived_;
};

}  // namespace engram::engine::cuda

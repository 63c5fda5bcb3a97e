// The CPU backend: every op is a closure on the stream's thread that splits its work over the
// device's workers. Each op family has its own file; this header only holds them together.
//
// Overrides run on the engine thread and enqueue; what they capture are views, by value. Scratch
// memory belongs to the stream's thread, so all ops of one CpuOps go to one stream.
#pragma once

#include <memory>
#include <vector>

#include "engine/ops/cpu/sampler.h"
#include "engine/ops/ops.h"
#include "memory/device/device_cpu.h"

namespace engram::engine::cpu {

class CpuOps : public Ops {
 public:
  // `device` outlives the ops.
  CpuOps(memory::CpuDevice& device, const OpsLimits& limits) : device_(device), limits_(limits) {}
  // Takes the scratch memory; once, before the first op.
  memory::Status allocate_scratch();

  int64_t matrix_bytes(DType dtype, int64_t rows, int64_t cols) const override;
  bool copies_rows() const override { return false; }
  void deliver_samples() override {}  // the stream writes them

 private:
  // matrix.cc: the packed layout, and reading single rows of it.
  void do_load_rows(const Matrix& matrix, int64_t first, View source) override;
  void do_embed(Stream& stream, const Matrix& table, const Batch& batch, View out) override;

  // linear.cc
  void do_linear(Stream& stream, View x, const Matrix& w, View bias, View y) override;

  // pointwise.cc
  void do_rms_norm(Stream& stream, View x, View weight, float eps, View y) override;
  void do_add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y) override;
  void do_add(Stream& stream, View h, View x) override;
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
  void do_silu_mul(Stream& stream, View gate_up, View y) override;
  void do_gather_rows(Stream& stream, View x, const int32_t* rows, View out) override;

  // attention.cc
  void do_attention(
      Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out)
      override;

  // engram.cc
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

  // sampling.cc
  void do_feed_sampled(Stream& stream, const SampledFeed& feed) override;
  void do_sample(
      Stream& stream,
      View logits,
      std::span<const SampleRow> rows,
      std::span<SampleResult> results,
      const SampledIds& ids) override;

  // Constant.
  memory::CpuDevice& device_;
  const OpsLimits limits_;

  // Stream's thread.
  memory::Buffer packed_x_;  // inputs of one linear call as blocks of rows, see linear_kernels.h
  memory::Buffer linear_scratch_;                   // one piece per worker
  std::vector<std::unique_ptr<Sampler>> samplers_;  // one per part of a sample call
};

}  // namespace engram::engine::cpu

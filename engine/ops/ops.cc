#include "engine/ops/ops.h"

#include <iterator>

namespace engram::engine {
namespace {

using memory::dtype_bytes;

bool is_act(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBf16;
}

int64_t view_bytes(View v) {
  return v.rows * v.cols * dtype_bytes(v.dtype);
}

void check_same_shape(View a, View b) {
  ENGRAM_CHECK(a.rows == b.rows);
  ENGRAM_CHECK(a.cols == b.cols);
  ENGRAM_CHECK(a.dtype == b.dtype);
}

void check_norm_weight(View weight, int64_t cols) {
  ENGRAM_CHECK(weight.rows == 1);
  ENGRAM_CHECK(weight.cols == cols);
  ENGRAM_CHECK(weight.dtype == DType::kF32);
}

void check_scales(const Matrix& w) {
  ENGRAM_CHECK(w.scales != nullptr);
  ENGRAM_CHECK(w.scale_rows >= 1);
  ENGRAM_CHECK(w.scale_rows <= kMaxScaleRows);
  ENGRAM_CHECK((w.scale_rows & (w.scale_rows - 1)) == 0);
}

int64_t matrix_source_bytes(const Matrix& w) {
  const int64_t values = w.rows * w.cols * dtype_bytes(w.dtype);
  if (w.scales == nullptr) return values;
  return values + w.scale_row_count() * w.scale_col_count() * static_cast<int64_t>(sizeof(float));
}

// Keys and values as they are, bf16 under f32 activations, or e4m3 with its scales.
void check_cache(const KvLayer& kv, DType act) {
  const bool fp8 = kv.dtype == DType::kF8E4m3;
  ENGRAM_CHECK(kv.dtype == act || kv.dtype == DType::kBf16 || fp8);
  ENGRAM_CHECK(fp8 == (kv.key_scales != nullptr));
  ENGRAM_CHECK(fp8 == (kv.value_scales != nullptr));
  ENGRAM_CHECK(kv.head_dim > 0);
  ENGRAM_CHECK(kv.head_dim <= kMaxHeadDim);
}

}  // namespace

Ops::Ops() {
  constexpr const char* kNames[] = {
      "embed",       "linear",      "rms_norm",     "add_rms_norm", "add",
      "rope_angles", "rope_append", "attention",    "silu_mul",     "gather_rows",
      "engram_gate", "short_conv",  "feed_sampled", "sample",
  };
  static_assert(std::size(kNames) == static_cast<size_t>(Op::kCount));
  for (size_t i = 0; i < stats_.size(); ++i) stats_[i].name = kNames[i];
}

bool Ops::account(Op op, int64_t bytes, int64_t flops) {
  if (calls_ == OpCalls::kOnlyEnqueued) return true;
  OpStats& s = stats_[static_cast<size_t>(op)];
  ++s.calls;
  s.bytes += bytes;
  s.flops += flops;
  return calls_ != OpCalls::kOnlyCounted;
}

void Ops::load_rows(const Matrix& matrix, int64_t first, View source) {
  ENGRAM_CHECK(source.cols == matrix.cols);
  ENGRAM_CHECK(source.dtype == matrix.dtype);
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(first + source.rows <= matrix.rows);
  if (source.rows > 0) do_load_rows(matrix, first, source);
}

void Ops::embed(Stream& stream, const Matrix& table, const Batch& batch, View out) {
  ENGRAM_CHECK(out.rows == batch.tokens);
  ENGRAM_CHECK(out.cols == table.cols);
  ENGRAM_CHECK(table.dtype != DType::kF8E4m3);
  ENGRAM_CHECK(is_act(out.dtype));
  if (out.rows == 0) return;
  const bool enqueues =
      account(Op::kEmbed, out.rows * out.cols * dtype_bytes(table.dtype) + view_bytes(out), 0);
  if (enqueues) do_embed(stream, table, batch, out);
}

void Ops::linear(Stream& stream, View x, const Matrix& w, View bias, View y) {
  ENGRAM_CHECK(x.cols == w.cols);
  ENGRAM_CHECK(y.cols == w.rows);
  ENGRAM_CHECK(x.rows == y.rows);
  ENGRAM_CHECK(is_act(x.dtype));
  ENGRAM_CHECK(y.dtype == x.dtype || y.dtype == DType::kF32);
  ENGRAM_CHECK(x.data != y.data);
  if (w.dtype == DType::kF8E4m3) check_scales(w);
  if (!bias.empty()) {
    ENGRAM_CHECK(bias.rows == 1);
    ENGRAM_CHECK(bias.cols == w.rows);
    ENGRAM_CHECK(bias.dtype == DType::kF32);
  }
  if (x.rows == 0) return;
  const bool enqueues = account(
      Op::kLinear, matrix_source_bytes(w) + view_bytes(x) + view_bytes(y),
      2 * x.rows * w.rows * w.cols);
  if (enqueues) do_linear(stream, x, w, bias, y);
}

void Ops::rms_norm(Stream& stream, View x, View weight, float eps, View y) {
  check_same_shape(x, y);
  check_norm_weight(weight, x.cols);
  ENGRAM_CHECK(is_act(x.dtype));
  if (x.rows == 0) return;
  const bool enqueues = account(Op::kRmsNorm, view_bytes(x) + view_bytes(y), 4 * x.rows * x.cols);
  if (enqueues) do_rms_norm(stream, x, weight, eps, y);
}

void Ops::add_rms_norm(Stream& stream, View h, View x, View weight, float eps, View y) {
  check_same_shape(h, x);
  check_same_shape(h, y);
  check_norm_weight(weight, h.cols);
  ENGRAM_CHECK(is_act(h.dtype));
  ENGRAM_CHECK(h.data != y.data);
  if (h.rows == 0) return;
  const bool enqueues = account(Op::kAddRmsNorm, 4 * view_bytes(h), 5 * h.rows * h.cols);
  if (enqueues) do_add_rms_norm(stream, h, x, weight, eps, y);
}

void Ops::add(Stream& stream, View h, View x) {
  check_same_shape(h, x);
  ENGRAM_CHECK(is_act(h.dtype));
  if (h.rows == 0) return;
  const bool enqueues = account(Op::kAdd, 3 * view_bytes(h), h.rows * h.cols);
  if (enqueues) do_add(stream, h, x);
}

void Ops::rope_angles(
    Stream& stream, const Batch& batch, View frequencies, double scale, View angles) {
  ENGRAM_CHECK(frequencies.dtype == DType::kF64);
  ENGRAM_CHECK(angles.dtype == DType::kF32);
  ENGRAM_CHECK(angles.rows == batch.tokens);
  ENGRAM_CHECK(angles.cols == 2 * frequencies.cols);
  if (angles.rows == 0) return;
  const bool enqueues = account(Op::kRopeAngles, view_bytes(angles), angles.rows * angles.cols);
  if (enqueues) do_rope_angles(stream, batch, frequencies, scale, angles);
}

void Ops::rope_append(
    Stream& stream,
    const Batch& batch,
    View qkv,
    View q_norm,
    View k_norm,
    float eps,
    View angles,
    const KvLayer& kv) {
  ENGRAM_CHECK(qkv.rows == batch.tokens);
  ENGRAM_CHECK(is_act(qkv.dtype));
  check_cache(kv, qkv.dtype);
  ENGRAM_CHECK(qkv.cols % kv.head_dim == 0);
  ENGRAM_CHECK(qkv.cols / kv.head_dim > 2 * kv.kv_heads);
  ENGRAM_CHECK(angles.rows == batch.tokens);
  ENGRAM_CHECK(angles.cols == kv.head_dim);
  ENGRAM_CHECK(q_norm.empty() == k_norm.empty());
  if (!q_norm.empty()) {
    check_norm_weight(q_norm, kv.head_dim);
    check_norm_weight(k_norm, kv.head_dim);
  }
  if (qkv.rows == 0) return;
  const int64_t written = qkv.rows * 2 * kv.kv_heads;  // heads, to the cache
  const int64_t bytes = 2 * view_bytes(qkv) + written * (kv_head_bytes(kv.dtype, kv.head_dim) -
                                                         kv_head_bytes(qkv.dtype, kv.head_dim));
  const bool enqueues = account(Op::kRopeAppend, bytes, 6 * qkv.rows * qkv.cols);
  if (enqueues) do_rope_append(stream, batch, qkv, q_norm, k_norm, eps, angles, kv);
}

void Ops::attention(
    Stream& stream, const Batch& batch, View q, const KvLayer& kv, float scale, View out) {
  check_same_shape(q, out);
  ENGRAM_CHECK(q.rows == batch.tokens);
  ENGRAM_CHECK(is_act(q.dtype));
  check_cache(kv, q.dtype);
  ENGRAM_CHECK(kv.head_dim % 2 == 0);
  ENGRAM_CHECK(q.cols % kv.head_dim == 0);
  ENGRAM_CHECK((q.cols / kv.head_dim) % kv.kv_heads == 0);
  ENGRAM_CHECK(q.data != out.data);
  if (q.rows == 0) return;
  const int64_t cache_bytes =
      2 * batch.context_tokens * kv.kv_heads * kv_head_bytes(kv.dtype, kv.head_dim);
  const bool enqueues = account(
      Op::kAttention, view_bytes(q) + view_bytes(out) + cache_bytes, 4 * batch.attended * q.cols);
  if (enqueues) do_attention(stream, batch, q, kv, scale, out);
}

void Ops::silu_mul(Stream& stream, View gate_up, View y) {
  ENGRAM_CHECK(gate_up.rows == y.rows);
  ENGRAM_CHECK(gate_up.cols == 2 * y.cols);
  ENGRAM_CHECK(gate_up.dtype == y.dtype);
  ENGRAM_CHECK(is_act(y.dtype));
  if (y.rows == 0) return;
  const bool enqueues =
      account(Op::kSiluMul, view_bytes(gate_up) + view_bytes(y), 6 * y.rows * y.cols);
  if (enqueues) do_silu_mul(stream, gate_up, y);
}

void Ops::gather_rows(Stream& stream, View x, const int32_t* rows, View out) {
  ENGRAM_CHECK(x.cols == out.cols);
  ENGRAM_CHECK(x.dtype == out.dtype);
  if (out.rows == 0) return;
  const bool enqueues = account(Op::kGatherRows, 2 * view_bytes(out), 0);
  if (enqueues) do_gather_rows(stream, x, rows, out);
}

void Ops::engram_gate(
    Stream& stream,
    View key,
    View value,
    View h,
    View pending,
    View key_norm,
    View query_norm,
    float eps,
    View gates,
    View u) {
  check_same_shape(key, h);
  check_same_shape(key, u);
  if (!pending.empty()) check_same_shape(key, pending);
  ENGRAM_CHECK(is_act(key.dtype));
  ENGRAM_CHECK(value.dtype == key.dtype);
  ENGRAM_CHECK(value.rows == key.rows);
  ENGRAM_CHECK(gates.rows == key.rows);
  ENGRAM_CHECK(gates.dtype == DType::kF32);
  ENGRAM_CHECK(key.cols == value.cols * gates.cols);
  for (const View norm : {key_norm, query_norm}) {
    ENGRAM_CHECK(norm.rows == gates.cols);
    ENGRAM_CHECK(norm.cols == value.cols);
    ENGRAM_CHECK(norm.dtype == DType::kF32);
  }
  if (key.rows == 0) return;
  const bool enqueues = account(
      Op::kEngramGate,
      3 * view_bytes(key) + view_bytes(value) + view_bytes(gates) + 2 * view_bytes(pending),
      9 * key.rows * key.cols);
  if (enqueues) do_engram_gate(stream, key, value, h, pending, key_norm, query_norm, eps, gates, u);
}

void Ops::short_conv(
    Stream& stream,
    const Batch& batch,
    View u,
    View norm,
    float eps,
    View conv,
    int dilation,
    const ConvLayer& layer,
    View h) {
  check_same_shape(u, h);
  ENGRAM_CHECK(is_act(u.dtype));
  ENGRAM_CHECK(u.rows == batch.tokens);
  ENGRAM_CHECK(layer.dtype == u.dtype);
  ENGRAM_CHECK(layer.width == u.cols);
  ENGRAM_CHECK(norm.rows * norm.cols == u.cols);
  ENGRAM_CHECK(norm.dtype == DType::kF32);
  ENGRAM_CHECK(conv.rows == u.cols);
  ENGRAM_CHECK(conv.dtype == DType::kF32);
  ENGRAM_CHECK(dilation >= 1);
  if (u.rows == 0) return;
  const bool enqueues = account(
      Op::kShortConv, (3 + conv.cols) * view_bytes(u), (8 + 2 * conv.cols) * u.rows * u.cols);
  if (enqueues) do_short_conv(stream, batch, u, norm, eps, conv, dilation, layer, h);
}

void Ops::feed_sampled(Stream& stream, const SampledFeed& feed) {
  ENGRAM_CHECK((feed.windows == nullptr) == (feed.canonical == nullptr));
  ENGRAM_CHECK(feed.windows == nullptr || feed.window > 0);
  if (feed.tokens == 0) return;
  const int64_t arrays = feed.windows == nullptr ? 3 : 5;  // read or written, an int of each
  const int64_t bytes = arrays * feed.tokens * static_cast<int64_t>(sizeof(int32_t));
  if (account(Op::kFeedSampled, bytes, 0)) do_feed_sampled(stream, feed);
}

void Ops::sample(
    Stream& stream,
    View logits,
    std::span<const SampleRow> rows,
    std::span<SampleResult> results,
    const SampledIds& ids) {
  ENGRAM_CHECK(logits.dtype == DType::kF32);
  ENGRAM_CHECK(logits.rows == static_cast<int64_t>(rows.size()));
  ENGRAM_CHECK(rows.size() == results.size());
  if (rows.empty()) return;
  for (const SampleRow& row : rows) ENGRAM_CHECK(!row.newest_on_device || ids.before != nullptr);
  const bool enqueues = account(Op::kSample, view_bytes(logits), 0);
  if (enqueues) do_sample(stream, logits, rows, results, ids);
}

}  // namespace engram::engine

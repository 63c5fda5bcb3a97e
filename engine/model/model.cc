#include "engine/model/model.h"

#include <cmath>

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::Status;

View first_rows(View view, int64_t rows) {
  return view.row_range(0, rows);
}

}  // namespace

memory::KvShape kv_shape(const ModelConfig& config, int page_tokens, DType act, DType kv_dtype) {
  memory::KvShape shape;
  shape.layers = config.num_hidden_layers;
  shape.kv_heads = config.num_key_value_heads;
  shape.head_dim = config.head_dim;
  const bool convolves = config.engram.kernel_size > 0;
  shape.conv_layers = convolves ? static_cast<int>(config.engram.layer_ids.size()) : 0;
  shape.conv_width = config.hc_mult * config.hidden_size;
  shape.page_tokens = page_tokens;
  shape.dtype = act;
  shape.kv_dtype = kv_dtype;
  return shape;
}

// Counts the workspace, or places views into it: the same code does both.
struct Model::Place {
  uint8_t* base = nullptr;  // null: count only
  int64_t bytes = 0;

  View view(DType dtype, int64_t rows, int64_t cols) {
    constexpr int64_t kLine = 64;
    void* data = base == nullptr ? nullptr : base + bytes;
    bytes += (rows * cols * memory::dtype_bytes(dtype) + kLine - 1) / kLine * kLine;
    return memory::make_view(data, dtype, rows, cols);
  }
};

Model::Model(
    const ModelConfig& config,
    const Weights& weights,
    const memory::KvCache& cache,
    Ops& ops,
    const ModelLimits& limits)
    : config_(config),
      weights_(weights),
      cache_(cache),
      ops_(ops),
      limits_(limits),
      rope_(rope_frequencies(config)),
      act_(cache.shape().dtype) {}

Result<std::unique_ptr<Model>> Model::make(
    const ModelConfig& config,
    const Weights& weights,
    const memory::KvCache& cache,
    memory::Device& device,
    Ops& ops,
    const ModelLimits& limits) {
  // One residual stream is all the ops below compute; config.h refuses checkpoints with more.
  ENGRAM_CHECK(config.hc_mult == 1);
  std::unique_ptr<Model> model(new Model(config, weights, cache, ops, limits));
  Result<memory::Buffer> workspace = device.allocate("activations", model->place_buffers(nullptr));
  if (!workspace.ok()) return workspace.status();
  model->workspace_ = std::move(workspace).value();
  model->place_buffers(model->workspace_.as<uint8_t>());
  const std::unique_ptr<Stream> stream = device.make_stream("start");
  device.copy(
      *stream, model->frequencies_.data, model->rope_.frequencies.data(),
      model->frequencies_.cols * static_cast<int64_t>(sizeof(double)));
  stream->synchronize();
  return model;
}

int64_t Model::place_buffers(uint8_t* base) {
  const ModelConfig& c = config_;
  const int64_t tokens = limits_.max_tokens;
  const int64_t width = c.hidden_size;
  const int64_t query_width = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t key_width = int64_t{c.num_key_value_heads} * c.head_dim;
  Place place{base};
  h_ = place.view(act_, tokens, width);
  normed_ = place.view(act_, tokens, width);
  out_ = place.view(act_, tokens, width);
  qkv_ = place.view(act_, tokens, query_width + 2 * key_width);
  attn_ = place.view(act_, tokens, query_width);
  gate_up_ = place.view(act_, tokens, 2 * c.intermediate_size);
  inner_ = place.view(act_, tokens, c.intermediate_size);
  frequencies_ = place.view(DType::kF64, 1, std::ssize(rope_.frequencies));
  angles_ = place.view(DType::kF32, tokens, c.head_dim);
  h_wanted_ = place.view(act_, tokens, width);
  attn_wanted_ = place.view(act_, tokens, query_width);
  if (!weights_.engram.empty()) {
    const int64_t streams = c.hc_mult;
    rows_ = place.view(act_, tokens, c.engram.vector_width());
    key_value_ = place.view(act_, tokens, (streams + 1) * width);
    update_ = place.view(act_, tokens, streams * width);
    gates_.clear();
    for (size_t i = 0; i < weights_.engram.size(); ++i) {
      gates_.push_back(place.view(DType::kF32, tokens, streams));
    }
  }
  logits_ = place.view(DType::kF32, limits_.logit_rows, c.vocab_size);
  return place.bytes;
}

KvLayer Model::kv_layer(int layer) const {
  return {
      .keys = cache_.keys(layer),
      .values = cache_.values(layer),
      .dtype = cache_.shape().kv_dtype,
      .page_tokens = cache_.shape().page_tokens,
      .kv_heads = config_.num_key_value_heads,
      .head_dim = config_.head_dim,
      .key_scales = cache_.key_scales(layer),
      .value_scales = cache_.value_scales(layer)};
}

void Model::forward(
    Stream& stream,
    const Batch& batch,
    const int32_t* wanted,
    int64_t wanted_count,
    std::vector<Ticket> tickets) {
  ENGRAM_CHECK(batch.tokens <= limits_.max_tokens);
  ENGRAM_CHECK(tickets.empty() || tickets.size() == weights_.engram.size());
  const float eps = static_cast<float>(config_.rms_norm_eps);
  wanted_count_ = wanted_count;
  View h = first_rows(h_, batch.tokens);
  const View normed = first_rows(normed_, batch.tokens);
  const View out = first_rows(out_, batch.tokens);
  ops_.embed(stream, weights_.embedding, batch, h);
  ops_.rope_angles(stream, batch, frequencies_, rope_.scale, first_rows(angles_, batch.tokens));
  // What the feed-forward adds is added by the norm that reads the sum, where there is one.
  for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
    const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
    const bool has_engram = w.engram >= 0 && !tickets.empty();
    if (has_engram) {
      Ticket ticket = std::move(tickets[static_cast<size_t>(w.engram)]);
      engram_layer(stream, batch, w.engram, std::move(ticket), layer > 0 ? out : View());
    }
    if (layer > 0 && !has_engram) {
      ops_.add_rms_norm(stream, h, out, w.input_norm, eps, normed);
    } else {
      ops_.rms_norm(stream, h, w.input_norm, eps, normed);
    }
    attention(stream, batch, layer);
    View attn = first_rows(attn_, batch.tokens);
    const bool last = layer + 1 == config_.num_hidden_layers;
    if (last && wanted_count != batch.tokens) {
      // Behind the last attention a token is on its own: only the wanted ones go on.
      h = first_rows(h_wanted_, wanted_count);
      ops_.gather_rows(stream, first_rows(h_, batch.tokens), wanted, h);
      ops_.gather_rows(stream, attn, wanted, first_rows(attn_wanted_, wanted_count));
      attn = first_rows(attn_wanted_, wanted_count);
    }
    feed_forward(stream, w, h, attn);
  }
  ops_.add_rms_norm(
      stream, h, first_rows(out_, wanted_count), weights_.final_norm, eps,
      first_rows(normed_, wanted_count));
}

void Model::engram_layer(
    Stream& stream, const Batch& batch, int index, Ticket ticket, View pending) {
  const EngramConfig& c = config_.engram;
  const EngramWeights& w = weights_.engram[static_cast<size_t>(index)];
  const int64_t stream_width = config_.hc_mult * config_.hidden_size;
  const View h = first_rows(h_, batch.tokens);
  const View key_value = first_rows(key_value_, batch.tokens);
  const View update = first_rows(update_, batch.tokens);
  const StagedRows staged = ticket.redeem();
  if (staged.ready != nullptr) stream.wait(*staged.ready, staged.waited_ns);
  View rows = staged.rows;
  if (!staged.in_step_order) {
    rows = first_rows(rows_, batch.tokens);
    ops_.gather_rows(stream, staged.rows, batch.row_slots, rows);
  }
  ops_.linear(stream, rows, w.key_value, w.key_value_bias, key_value);
  ops_.engram_gate(
      stream, key_value.col_range(0, stream_width),
      key_value.col_range(stream_width, config_.hidden_size), h, pending, w.key_norm, w.query_norm,
      static_cast<float>(c.norm_eps), first_rows(gates(index), batch.tokens), update);
  if (c.kernel_size == 0) {
    ops_.add(stream, h, update);
    return;
  }
  const ConvLayer layer{
      .inputs = cache_.conv_inputs(index),
      .dtype = act_,
      .page_tokens = cache_.shape().page_tokens,
      .width = stream_width};
  ops_.short_conv(
      stream, batch, update, w.conv_norm, static_cast<float>(c.conv_norm_eps), w.conv,
      c.conv_dilation, layer, h);
}

// Reads normed_, writes attn_ and the cache.
void Model::attention(Stream& stream, const Batch& batch, int layer) {
  const LayerWeights& w = weights_.layers[static_cast<size_t>(layer)];
  const View qkv = first_rows(qkv_, batch.tokens);
  const KvLayer kv = kv_layer(layer);
  ops_.linear(stream, first_rows(normed_, batch.tokens), w.qkv, w.qkv_bias, qkv);
  ops_.rope_append(
      stream, batch, qkv, w.q_norm, w.k_norm, static_cast<float>(config_.rms_norm_eps),
      first_rows(angles_, batch.tokens), kv);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
  ops_.attention(
      stream, batch, qkv.col_range(0, attn_.cols), kv, scale, first_rows(attn_, batch.tokens));
}

// The attention's output projection and the feed-forward of the rows of h; leaves in out_ what is
// still to be added to h.
void Model::feed_forward(Stream& stream, const LayerWeights& w, View h, View attn) {
  const View out = first_rows(out_, h.rows);
  const View normed = first_rows(normed_, h.rows);
  const View gate_up = first_rows(gate_up_, h.rows);
  const View inner = first_rows(inner_, h.rows);
  ops_.linear(stream, attn, w.output, w.output_bias, out);
  ops_.add_rms_norm(stream, h, out, w.post_norm, static_cast<float>(config_.rms_norm_eps), normed);
  ops_.linear(stream, normed, w.gate_up, View{}, gate_up);
  ops_.silu_mul(stream, gate_up, inner);
  ops_.linear(stream, inner, w.down, View{}, out);
}

View Model::logits(Stream& stream, int64_t first, int64_t count) {
  ENGRAM_CHECK(count <= limits_.logit_rows);
  ENGRAM_CHECK(first >= 0);
  ENGRAM_CHECK(first + count <= wanted_count_);
  const View logits = first_rows(logits_, count);
  ops_.linear(stream, normed_.row_range(first, count), weights_.lm_head, View{}, logits);
  return logits;
}

}  // namespace engram::engine

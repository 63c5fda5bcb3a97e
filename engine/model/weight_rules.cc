#include "engine/model/weight_rules.h"

#include <algorithm>

#include "engine/model/fp8_weights.h"

namespace engram::engine {
namespace {

using memory::Status;

enum class Dim {
  kOne,
  kVocab,          // V
  kHidden,         // D
  kQueries,        // Nq * Dh
  kKeys,           // Nk * Dh
  kHeadWidth,      // Dh
  kFeedForward,    // I
  kStreams,        // G
  kStreamsHidden,  // G * D
  kMemory,         // E
  kTaps,           // w
};

// How a tensor is stored and what becomes of it.
enum class Form {
  kMatrix,      // [rows, cols], rows of a Matrix
  kLinear,      // the same, of a linear layer that may be in f8_e4m3
  kNorm,        // [cols], a view [1, cols]
  kStreamNorm,  // [rows, cols], a view of that shape
  kBias,        // [cols], a part of a view [1, all parts]
  kTaps,        // [rows, 1, cols], a view [rows, cols]
};

enum class When { kAlways, kUntied, kQkNorm, kAttentionBias, kConvolution, kEngramBias };

// Rules of one matrix (or one bias) follow each other: their rows (columns) are stacked.
template <typename Owner>
struct Rule {
  const char* name;
  Form form;
  Dim rows;
  Dim cols;
  When when;
  Matrix Owner::*matrix;
  View Owner::*vector;
};

constexpr Rule<Weights> kModelRules[] = {
    {"model.embed_tokens.weight", Form::kMatrix, Dim::kVocab, Dim::kHidden, When::kAlways,
     &Weights::embedding, nullptr},
    {"lm_head.weight", Form::kMatrix, Dim::kVocab, Dim::kHidden, When::kUntied, &Weights::lm_head,
     nullptr},
    {"model.norm.weight", Form::kNorm, Dim::kOne, Dim::kHidden, When::kAlways, nullptr,
     &Weights::final_norm},
};

// After "model.layers.l.".
using L = LayerWeights;
constexpr Rule<L> kLayerRules[] = {
    {"input_layernorm.weight", Form::kNorm, Dim::kOne, Dim::kHidden, When::kAlways, nullptr,
     &L::input_norm},
    {"self_attn.q_proj.weight", Form::kLinear, Dim::kQueries, Dim::kHidden, When::kAlways, &L::qkv,
     nullptr},
    {"self_attn.k_proj.weight", Form::kLinear, Dim::kKeys, Dim::kHidden, When::kAlways, &L::qkv,
     nullptr},
    {"self_attn.v_proj.weight", Form::kLinear, Dim::kKeys, Dim::kHidden, When::kAlways, &L::qkv,
     nullptr},
    {"self_attn.q_proj.bias", Form::kBias, Dim::kOne, Dim::kQueries, When::kAttentionBias, nullptr,
     &L::qkv_bias},
    {"self_attn.k_proj.bias", Form::kBias, Dim::kOne, Dim::kKeys, When::kAttentionBias, nullptr,
     &L::qkv_bias},
    {"self_attn.v_proj.bias", Form::kBias, Dim::kOne, Dim::kKeys, When::kAttentionBias, nullptr,
     &L::qkv_bias},
    {"self_attn.q_norm.weight", Form::kNorm, Dim::kOne, Dim::kHeadWidth, When::kQkNorm, nullptr,
     &L::q_norm},
    {"self_attn.k_norm.weight", Form::kNorm, Dim::kOne, Dim::kHeadWidth, When::kQkNorm, nullptr,
     &L::k_norm},
    {"self_attn.o_proj.weight", Form::kLinear, Dim::kHidden, Dim::kQueries, When::kAlways,
     &L::output, nullptr},
    {"self_attn.o_proj.bias", Form::kBias, Dim::kOne, Dim::kHidden, When::kAttentionBias, nullptr,
     &L::output_bias},
    {"post_attention_layernorm.weight", Form::kNorm, Dim::kOne, Dim::kHidden, When::kAlways,
     nullptr, &L::post_norm},
    {"mlp.gate_proj.weight", Form::kLinear, Dim::kFeedForward, Dim::kHidden, When::kAlways,
     &L::gate_up, nullptr},
    {"mlp.up_proj.weight", Form::kLinear, Dim::kFeedForward, Dim::kHidden, When::kAlways,
     &L::gate_up, nullptr},
    {"mlp.down_proj.weight", Form::kLinear, Dim::kHidden, Dim::kFeedForward, When::kAlways,
     &L::down, nullptr},
};

// After "model.layers.l.engram.".
using E = EngramWeights;
constexpr Rule<E> kEngramRules[] = {
    {"key_proj.weight", Form::kLinear, Dim::kStreamsHidden, Dim::kMemory, When::kAlways,
     &E::key_value, nullptr},
    {"value_proj.weight", Form::kLinear, Dim::kHidden, Dim::kMemory, When::kAlways, &E::key_value,
     nullptr},
    {"key_proj.bias", Form::kBias, Dim::kOne, Dim::kStreamsHidden, When::kEngramBias, nullptr,
     &E::key_value_bias},
    {"value_proj.bias", Form::kBias, Dim::kOne, Dim::kHidden, When::kEngramBias, nullptr,
     &E::key_value_bias},
    {"key_norm.weight", Form::kStreamNorm, Dim::kStreams, Dim::kHidden, When::kAlways, nullptr,
     &E::key_norm},
    {"query_norm.weight", Form::kStreamNorm, Dim::kStreams, Dim::kHidden, When::kAlways, nullptr,
     &E::query_norm},
    {"conv_norm.weight", Form::kStreamNorm, Dim::kStreams, Dim::kHidden, When::kConvolution,
     nullptr, &E::conv_norm},
    {"conv.weight", Form::kTaps, Dim::kStreamsHidden, Dim::kTaps, When::kConvolution, nullptr,
     &E::conv},
};

int64_t size_of(Dim dim, const ModelConfig& c) {
  switch (dim) {
    case Dim::kOne:
      return 1;
    case Dim::kVocab:
      return c.vocab_size;
    case Dim::kHidden:
      return c.hidden_size;
    case Dim::kQueries:
      return int64_t{c.num_attention_heads} * c.head_dim;
    case Dim::kKeys:
      return int64_t{c.num_key_value_heads} * c.head_dim;
    case Dim::kHeadWidth:
      return c.head_dim;
    case Dim::kFeedForward:
      return c.intermediate_size;
    case Dim::kStreams:
      return c.hc_mult;
    case Dim::kStreamsHidden:
      return c.hc_mult * c.hidden_size;
    case Dim::kMemory:
      return c.engram.vector_width();
    case Dim::kTaps:
      return c.engram.kernel_size;
  }
  ENGRAM_CHECK(false);
  return 0;
}

bool holds(When when, const ModelConfig& c) {
  switch (when) {
    case When::kAlways:
      return true;
    case When::kUntied:
      return !c.tie_word_embeddings;
    case When::kQkNorm:
      return c.qk_norm;
    case When::kAttentionBias:
      return c.attention_bias;
    case When::kConvolution:
      return c.engram.kernel_size > 0;
    case When::kEngramBias:
      return c.engram.bias;
  }
  ENGRAM_CHECK(false);
  return false;
}

std::vector<int64_t> stored_shape(Form form, int64_t rows, int64_t cols) {
  switch (form) {
    case Form::kMatrix:
    case Form::kLinear:
    case Form::kStreamNorm:
      return {rows, cols};
    case Form::kNorm:
    case Form::kBias:
      return {cols};
    case Form::kTaps:
      return {rows, 1, cols};
  }
  ENGRAM_CHECK(false);
  return {};
}

// Says whether a linear layer is in f8_e4m3. Pieces of one matrix lie wherever they end, so as many
// outputs share a scale as divide the beginnings of all.
void choose_fp8(const WeightQuantization& quantization, bool online, WeightPiece* piece) {
  const std::string ending = ".weight";
  const std::string module = piece->name.substr(0, piece->name.size() - ending.size());
  if (!quantization.converts(module)) return;
  if (quantization.stored) {
    piece->scale_name = piece->name + "_scale_inv";
  } else if (!online) {
    return;
  }
  piece->quantize = !quantization.stored;
  Matrix& matrix = *piece->matrix;
  if (piece->first == 0) {
    matrix.dtype = DType::kF8E4m3;
    matrix.scale_rows = kMaxScaleRows;
  } else {
    matrix.scale_rows = std::min(matrix.scale_rows, piece->first & -piece->first);
  }
}

// `online`: whether linear layers that are not stored in f8_e4m3 are to become so.
template <typename Owner, size_t kCount>
void add_pieces(
    const Rule<Owner> (&rules)[kCount],
    const std::string& prefix,
    const ModelConfig& config,
    bool online,
    Owner* owner,
    std::vector<WeightPiece>* pieces) {
  for (const Rule<Owner>& rule : rules) {
    if (!holds(rule.when, config)) continue;
    WeightPiece& piece = pieces->emplace_back();
    piece.name = prefix + rule.name;
    piece.rows = size_of(rule.rows, config);
    piece.cols = size_of(rule.cols, config);
    piece.shape = stored_shape(rule.form, piece.rows, piece.cols);
    piece.norm = rule.form == Form::kNorm || rule.form == Form::kStreamNorm;
    if (rule.form == Form::kMatrix || rule.form == Form::kLinear) {
      Matrix& matrix = owner->*rule.matrix;
      piece.matrix = &matrix;
      piece.first = matrix.rows;
      matrix.rows += piece.rows;
      matrix.cols = piece.cols;
      if (rule.form == Form::kLinear) choose_fp8(config.quantization, online, &piece);
    } else {
      View& view = owner->*rule.vector;
      piece.vector = &view;
      piece.first = view.cols;  // only biases have several parts
      const int64_t cols = rule.form == Form::kBias ? view.cols + piece.cols : piece.cols;
      ENGRAM_CHECK(rule.form == Form::kBias || view.cols == 0);
      view = memory::make_view(nullptr, DType::kF32, piece.rows, cols);
    }
  }
}

int64_t aligned(int64_t bytes) {
  constexpr int64_t kAlignment = 128;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Bytes of a matrix or view without its scales, and of those.
struct PlaceBytes {
  int64_t values = 0;
  int64_t scales = 0;
};

PlaceBytes place_bytes(const WeightPiece& piece, Ops& ops) {
  if (piece.matrix == nullptr) return {aligned(piece.vector->rows * piece.vector->cols * 4), 0};
  const Matrix& m = *piece.matrix;
  const int64_t values = aligned(ops.matrix_bytes(m.dtype, m.rows, m.cols));
  if (m.dtype != DType::kF8E4m3) return {values, 0};
  return {values, aligned(m.scale_row_count() * m.scale_col_count() * 4)};
}

}  // namespace

std::vector<WeightPiece> plan_pieces(const ModelConfig& config, Weights* weights) {
  std::vector<WeightPiece> pieces;
  weights->layers.resize(static_cast<size_t>(config.num_hidden_layers));
  weights->engram.resize(config.engram.layer_ids.size());
  add_pieces(kModelRules, "", config, false, weights, &pieces);
  for (int l = 0; l < config.num_hidden_layers; ++l) {
    LayerWeights& layer = weights->layers[static_cast<size_t>(l)];
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    layer.engram = config.engram_index(l);
    if (layer.engram >= 0) {
      EngramWeights& engram = weights->engram[static_cast<size_t>(layer.engram)];
      add_pieces(kEngramRules, prefix + "engram.", config, false, &engram, &pieces);
    }
    add_pieces(kLayerRules, prefix, config, config.quantization.online, &layer, &pieces);
  }
  return pieces;
}

Status place_weights(
    const std::vector<WeightPiece>& pieces, memory::Device& device, Ops& ops, Weights* weights) {
  // Counted first, then placed: one allocation, whose size is known before it is taken.
  int64_t bytes = 0;
  for (const WeightPiece& piece : pieces) {
    if (piece.first > 0) continue;  // a further part of the matrix or view before
    const PlaceBytes needed = place_bytes(piece, ops);
    bytes += needed.values + needed.scales;
  }
  memory::Result<memory::Buffer> buffer = device.allocate("weights", bytes);
  if (!buffer.ok()) return buffer.status();
  char* next = buffer.value().as<char>();
  for (const WeightPiece& piece : pieces) {
    if (piece.first > 0) continue;
    const PlaceBytes needed = place_bytes(piece, ops);
    (piece.matrix != nullptr ? piece.matrix->data : piece.vector->data) = next;
    if (needed.scales > 0) {
      piece.matrix->scales = reinterpret_cast<float*>(next + needed.values);
    }
    next += needed.values + needed.scales;
  }
  if (weights->lm_head.empty()) weights->lm_head = weights->embedding;
  weights->weight_bytes = bytes;
  weights->storage.push_back(std::move(buffer).value());
  return {};
}

void upload_vectors(
    const std::vector<WeightPiece>& pieces,
    const std::vector<std::vector<float>>& values,
    memory::Device& device) {
  const std::unique_ptr<memory::Stream> stream = device.make_stream("load");
  const auto copy = [&](float* to, const std::vector<float>& from) {
    device.copy(*stream, to, from.data(), std::ssize(from) * static_cast<int64_t>(sizeof(float)));
  };
  for (size_t i = 0; i < pieces.size(); ++i) {
    const WeightPiece& piece = pieces[i];
    if (piece.fp8()) {
      const Matrix& m = *piece.matrix;
      ENGRAM_CHECK(std::ssize(values[i]) == piece.scale_shape()[0] * piece.scale_shape()[1]);
      float* to = m.scales + piece.first / m.scale_rows * m.scale_col_count();
      const std::vector<float> scales =
          spread_scales(values[i], piece.rows, m.scale_col_count(), m.scale_rows);
      copy(to, scales);
      stream->synchronize();  // they go with this block
    } else if (piece.vector != nullptr) {
      ENGRAM_CHECK(std::ssize(values[i]) == piece.rows * piece.cols);
      copy(piece.vector->as<float>() + piece.first, values[i]);
    }
  }
  stream->synchronize();
}

bool is_ignored_tensor(const ModelConfig& config, const std::string& name) {
  if (config.architecture == "EngramForCausalLM") return false;
  const std::string ending = ".self_attn.rotary_emb.inv_freq";
  return (name == "lm_head.weight" && config.tie_word_embeddings) ||
         (name.size() > ending.size() &&
          name.compare(name.size() - ending.size(), ending.size(), ending) == 0);
}

}  // namespace engram::engine

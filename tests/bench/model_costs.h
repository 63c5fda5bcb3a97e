// What a step of a model must read and compute at least, in bf16 but for layers in fp8: arithmetic
// over its configuration.
#pragma once

#include <cstdint>

#include "engine/model/config.h"

namespace engram::bench {

// Weights one layer's linear operations have, without the Engram module.
inline int64_t layer_weights(const engine::ModelConfig& c) {
  const int64_t queries = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t keys = int64_t{c.num_key_value_heads} * c.head_dim;
  return c.hidden_size * (2 * queries + 2 * keys + 3 * c.intermediate_size);
}

inline int64_t engram_weights(const engine::ModelConfig& c) {
  return static_cast<int64_t>(c.engram.layer_ids.size()) * 2 * c.hidden_size *
         c.engram.vector_width();
}

// Every weight a token meets.
inline int64_t step_weights(const engine::ModelConfig& c, bool engram) {
  return c.num_hidden_layers * layer_weights(c) + c.vocab_size * c.hidden_size +
         (engram ? engram_weights(c) : 0);
}

// What a decode step must read: every weight once. Scales of fp8 weights are not counted.
inline int64_t step_bytes(const engine::ModelConfig& c, bool engram) {
  const int64_t halved = c.quantization.any() ? c.num_hidden_layers * layer_weights(c) : 0;
  return 2 * step_weights(c, engram) - halved;
}

// Keys and values of one position, all layers.
inline int64_t cache_bytes(const engine::ModelConfig& c) {
  return int64_t{4} * c.num_hidden_layers * c.num_key_value_heads * c.head_dim;
}

// What a prompt's step must compute: behind the last attention only one token goes on.
inline int64_t prefill_flops(const engine::ModelConfig& c, int64_t tokens, bool engram) {
  const int64_t queries = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t keys = int64_t{c.num_key_value_heads} * c.head_dim;
  const int64_t last = c.hidden_size * (queries + 2 * keys);
  const int64_t all =
      (c.num_hidden_layers - 1) * layer_weights(c) + last + (engram ? engram_weights(c) : 0);
  const int64_t attention = c.num_hidden_layers * 2 * tokens * (tokens + 1) * queries;
  return 2 * tokens * all + attention + 2 * c.vocab_size * c.hidden_size;
}

}  // namespace engram::bench

// Any text as config.json and as generation_config.json. What is accepted must be within the bounds
// that the engine divides by and allocates from.
#include <cmath>
#include <cstdint>
#include <string>

#include "engine/model/config.h"
#include "memory/base/status.h"

namespace {

using engram::engine::ModelConfig;

void check_config(const ModelConfig& c) {
  ENGRAM_CHECK(c.hidden_size > 0);
  ENGRAM_CHECK(c.num_hidden_layers > 0);
  ENGRAM_CHECK(c.vocab_size > 0);
  ENGRAM_CHECK(c.intermediate_size > 0);
  ENGRAM_CHECK(c.max_position_embeddings > 0);
  ENGRAM_CHECK(c.num_attention_heads % c.num_key_value_heads == 0);
  ENGRAM_CHECK(c.head_dim > 0);
  ENGRAM_CHECK(c.head_dim % 2 == 0);
  const engram::engine::RopeFrequencies rope = engram::engine::rope_frequencies(c);
  ENGRAM_CHECK(static_cast<int>(rope.frequencies.size()) == c.head_dim / 2);
  ENGRAM_CHECK(std::isfinite(rope.scale));
  for (const double f : rope.frequencies) ENGRAM_CHECK(std::isfinite(f));
  for (const int32_t id : c.eos_token_ids) ENGRAM_CHECK(id >= 0 && id < c.vocab_size);
  const engram::engine::EngramConfig& e = c.engram;
  for (const int layer : e.layer_ids) {
    ENGRAM_CHECK(layer >= 0 && layer < c.num_hidden_layers);
    ENGRAM_CHECK(c.engram_index(layer) >= 0);
    ENGRAM_CHECK(static_cast<int>(e.vocab_size.size()) == e.max_ngram_size - 1);
    ENGRAM_CHECK(e.vector_width() > 0);
    ENGRAM_CHECK(e.conv_dilation > 0);
    ENGRAM_CHECK(e.compressed_vocab_size > 0);
    ENGRAM_CHECK(e.pad_token_id >= 0 && e.pad_token_id < c.vocab_size);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = engram::engine::parse_config(text, "config.json");
  if (config.ok()) check_config(config.value());
  const auto defaults = engram::engine::parse_generation_defaults(text, "generation_config.json");
  if (defaults.ok()) {
    ENGRAM_CHECK(defaults.value().temperature >= 0);
    ENGRAM_CHECK(defaults.value().top_p > 0);
  }
  return 0;
}

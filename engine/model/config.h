// What a checkpoint's config.json says, as one set of fields for every supported family.
// Read once at start-up; everything is checked, nothing is guessed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

// How positions become rotation angles. Source: HF modeling_rope_utils; spec of each kind there.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // llama3
  double high_freq_factor = 4.0;  // llama3
  double original_max_position_embeddings = 0;
  double beta_fast = 32;  // yarn
  double beta_slow = 1;
  bool truncate = true;
  double mscale = 0;  // 0: not given
  double mscale_all_dim = 0;
  double attention_factor = 0;  // 0: not given
};

struct EngramConfig {
  std::vector<int> layer_ids;  // block indices in the order the primes are drawn; empty: no Engram
  int max_ngram_size = 3;      // N
  std::vector<int64_t> vocab_size;    // one per order 2..N: lower bound of rows per head
  int n_heads = 8;                    // K, per order
  int64_t head_dim = 0;               // r
  int64_t compressed_vocab_size = 0;  // C
  int32_t pad_token_id = 2;           // raw id
  uint64_t seed = 0;
  int kernel_size = 4;  // w; 0: no short convolution
  int conv_dilation = 3;
  double norm_eps = 1.1920929e-07;
  double conv_norm_eps = 1e-5;
  bool bias = false;

  int columns() const { return (max_ngram_size - 1) * n_heads; }  // H
  int64_t vector_width() const { return columns() * head_dim; }   // E
};

// Which linear layers have their weights in f8_e4m3, with a scale for each block of 128 outputs and
// 128 inputs.
struct WeightQuantization {
  // They are stored so (quantization_config), in the layout of DeepSeek-V3 and Qwen3-FP8: all but
  // embeddings, the head and these modules. An entry is one or several neighbouring components of
  // a module's name: "lm_head", "mlp.gate_proj", "model.layers.3".
  bool stored = false;
  std::vector<std::string> modules_to_not_convert;
  // Those of attention and feed-forward that are not stored so become so while they are loaded. Not
  // a field of config.json: the engine's options say it.
  bool online = false;

  // Whether linear() meets such weights.
  bool any() const { return stored || online; }
  // Whether the module, "model.layers.0.mlp.up_proj", is none of modules_to_not_convert.
  bool converts(const std::string& module) const;
};

struct ModelConfig {
  std::string architecture;  // architectures[0]
  int64_t hidden_size = 0;   // D
  int num_hidden_layers = 0;
  int64_t vocab_size = 0;               // V
  int64_t max_position_embeddings = 0;  // tokens
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  int num_attention_heads = 0;  // Nq
  int num_key_value_heads = 0;  // Nkv
  int head_dim = 0;             // Dh
  bool qk_norm = false;
  bool attention_bias = false;
  int64_t intermediate_size = 0;  // I
  int hc_mult = 1;                // G
  EngramConfig engram;
  WeightQuantization quantization;
  int32_t bos_token_id = -1;  // -1: none
  std::vector<int32_t> eos_token_ids;
  int32_t pad_token_id = -1;

  int engram_index(int layer) const;  // place of the layer in engram.layer_ids, or -1
};

// Sampling defaults of generation_config.json, for requests that leave the field unset; fields that
// are absent keep these values, and "do_sample": false means temperature 0.
struct GenerationDefaults {
  bool present = false;
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  int64_t max_new_tokens = 0;  // also the most that a request may ask for; 0: no limit
  std::vector<int32_t> eos_token_ids;
};

// INVALID_ARGUMENT names file and field, what was expected and what was found; UNIMPLEMENTED names
// the field whose value this version does not serve. Duplicate JSON keys are errors.
memory::Result<ModelConfig> parse_config(const std::string& json, const std::string& file);
memory::Result<ModelConfig> load_config(const std::string& directory);  // DIRECTORY/config.json
// The Engram fields of DIRECTORY/config.json alone, whatever the rest of the model is: enough for
// its tables.
memory::Result<EngramConfig> load_engram_config(const std::string& directory);
memory::Result<GenerationDefaults> parse_generation_defaults(
    const std::string& json, const std::string& file);
memory::Result<GenerationDefaults> load_generation_defaults(const std::string& directory);
// "temperature 0.8, top_p 0.95": what differs from the values above; empty if nothing does.
std::string describe(const GenerationDefaults& defaults);

// Radians per position [head_dim / 2] and the factor on cos and sin.
struct RopeFrequencies {
  std::vector<double> frequencies;
  double scale = 1.0;
};
RopeFrequencies rope_frequencies(const ModelConfig& config);

}  // namespace engram::engine

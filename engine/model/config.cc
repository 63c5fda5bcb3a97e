#include "engine/model/config.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

#include "engine/model/json_fields.h"
#include "engine/model/quantization.h"
#include "engine/model/rope.h"
#include "engine/ops/ops.h"
#include "memory/io/file.h"
#include "memory/io/json.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxWidth = 1 << 20;
// Small enough that H * rows per head * row bytes stays below 2^63.
constexpr int64_t kMaxNgram = 16;
constexpr int64_t kMaxNgramHeads = 256;
constexpr int64_t kMaxRowsPerHead = int64_t{1} << 34;
constexpr int64_t kMaxRowWidth = 8192;
constexpr int64_t kMaxColumnsOfAllLayers = 16384;

struct Family {
  const char* architecture;
  bool qk_norm;
};

constexpr Family kFamilies[] = {
    {"EngramForCausalLM", false},
    {"LlamaForCausalLM", false},
    {"Qwen3ForCausalLM", true},
};

void read_architecture(JsonFields* fields, ModelConfig* config) {
  const char* name = "architectures";
  if (!fields->has(name) || !fields->at(name).is_array() || fields->at(name).empty() ||
      !fields->at(name)[0].is_string()) {
    fields->reject(name, "a list that begins with a name");
    return;
  }
  config->architecture = fields->at(name)[0].get<std::string>();
  for (const Family& family : kFamilies) {
    if (config->architecture != family.architecture) continue;
    config->qk_norm = family.qk_norm;
    return;
  }
  fields->refuse(name, "EngramForCausalLM, LlamaForCausalLM and Qwen3ForCausalLM");
}

// Fields whose other values change the maths. What is not known here must not be ignored.
void refuse_later_families(JsonFields* fields) {
  std::string attention = "gqa";
  fields->text("attention_type", Need::kOptional, &attention);
  if (attention == "mla") {
    fields->refuse("attention_type", "gqa");
  } else if (attention != "gqa") {
    fields->reject("attention_type", "gqa or mla");
  }
  std::string activation = "silu";
  fields->text("hidden_act", Need::kOptional, &activation);
  if (activation != "silu") fields->refuse("hidden_act", "silu");
  int64_t experts = 0;
  fields->integer("n_routed_experts", Need::kOptional, 0, kMaxVocab, &experts);
  if (experts != 0) fields->refuse("n_routed_experts", "0 (dense models)");
  for (const char* name : {"mlp_bias", "use_sliding_window"}) {
    bool used = false;
    fields->boolean(name, &used);
    if (used) fields->refuse(name, "false");
  }
  double rotary = 1.0;
  fields->number("partial_rotary_factor", Need::kOptional, 0, 1, &rotary);
  if (rotary != 1.0) fields->refuse("partial_rotary_factor", "1");
  if (fields->has("layer_types")) {
    const json& types = fields->at("layer_types");
    const bool full = types.is_array() && std::all_of(
                                              types.begin(), types.end(),
                                              [](const json& t) { return t == "full_attention"; });
    if (!full) fields->refuse("layer_types", "a list of full_attention");
  }
}

void read_attention(JsonFields* fields, ModelConfig* c) {
  fields->integer("num_attention_heads", Need::kRequired, 1, 4096, &c->num_attention_heads);
  c->num_key_value_heads = c->num_attention_heads;
  fields->integer("num_key_value_heads", Need::kOptional, 1, 4096, &c->num_key_value_heads);
  if (!fields->status().ok()) return;
  if (c->num_attention_heads % c->num_key_value_heads != 0) {
    fields->reject("num_key_value_heads", "a divisor of num_attention_heads");
  }
  const char* head_dim = "head_dim";
  if (fields->has(head_dim)) {
    fields->integer(head_dim, Need::kRequired, 2, kMaxHeadDim, &c->head_dim);
  } else if (c->hidden_size % c->num_attention_heads != 0) {
    fields->reject(head_dim, "a number, as num_attention_heads does not divide hidden_size");
  } else {
    c->head_dim = static_cast<int>(c->hidden_size / c->num_attention_heads);
  }
  if (fields->status().ok() && (c->head_dim % 2 != 0 || c->head_dim > kMaxHeadDim)) {
    fields->reject(head_dim, "an even number up to " + std::to_string(kMaxHeadDim));
  }
  fields->boolean("qk_norm", &c->qk_norm);
  fields->boolean("attention_bias", &c->attention_bias);
}

void read_backbone(JsonFields* fields, ModelConfig* c) {
  fields->integer("hidden_size", Need::kRequired, 1, kMaxWidth, &c->hidden_size);
  fields->integer("num_hidden_layers", Need::kRequired, 1, 4096, &c->num_hidden_layers);
  fields->integer("vocab_size", Need::kRequired, 1, kMaxVocab, &c->vocab_size);
  fields->integer(
      "max_position_embeddings", Need::kRequired, 1, int64_t{1} << 30, &c->max_position_embeddings);
  fields->number("rms_norm_eps", Need::kOptional, 1e-30, 1, &c->rms_norm_eps);
  fields->boolean("tie_word_embeddings", &c->tie_word_embeddings);
  fields->integer("intermediate_size", Need::kRequired, 1, int64_t{1} << 24, &c->intermediate_size);
  fields->integer("hc_mult", Need::kOptional, 1, 64, &c->hc_mult);
  if (c->hc_mult != 1) fields->refuse("hc_mult", "1 (an ordinary residual)");
  if (fields->status().ok()) read_attention(fields, c);
}

void read_token_ids(JsonFields* fields, ModelConfig* c) {
  const int64_t last = c->vocab_size - 1;
  fields->integer("bos_token_id", Need::kOptional, -1, last, &c->bos_token_id);
  fields->integer("pad_token_id", Need::kOptional, -1, last, &c->pad_token_id);
  fields->integers("eos_token_id", Need::kOptional, true, 0, last, &c->eos_token_ids);
}

// A field of this prefix that is not known could mean another hash: it must not be ignored.
void refuse_unknown_engram_fields(const json& root, JsonFields* fields) {
  static const std::set<std::string_view> kKnown = {
      "engram_bias",          "engram_compressed_vocab_size",
      "engram_conv_dilation", "engram_conv_norm_eps",
      "engram_head_dim",      "engram_kernel_size",
      "engram_layer_ids",     "engram_max_ngram_size",
      "engram_n_heads",       "engram_norm_eps",
      "engram_pad_token_id",  "engram_seed",
      "engram_vocab_size",
  };
  for (const auto& [name, value] : root.items()) {
    if (name.rfind("engram_", 0) == 0 && kKnown.count(name) == 0) {
      fields->refuse(name.c_str(), "no field of this name");
    }
  }
}

void read_table_sizes(JsonFields* fields, EngramConfig* e) {
  const char* name = "engram_vocab_size";
  fields->integers(name, Need::kRequired, true, 1, kMaxRowsPerHead, &e->vocab_size);
  if (!fields->status().ok()) return;
  const size_t orders = static_cast<size_t>(e->max_ngram_size - 1);
  if (fields->at(name).is_number()) e->vocab_size.resize(orders, e->vocab_size[0]);
  if (e->vocab_size.size() != orders) {
    fields->reject(name, "one size, or " + std::to_string(orders) + ", one per order");
  }
  const int64_t columns = e->columns() * static_cast<int64_t>(e->layer_ids.size());
  if (columns > kMaxColumnsOfAllLayers) {
    fields->reject(
        "engram_n_heads",
        "at most " + std::to_string(kMaxColumnsOfAllLayers) + " table columns in all layers");
  }
}

void read_engram(JsonFields* fields, int layers, int64_t vocab, EngramConfig* e) {
  const char* ids = "engram_layer_ids";
  fields->integers(ids, Need::kOptional, false, 0, layers - 1, &e->layer_ids);
  if (!fields->status().ok() || e->layer_ids.empty()) return;
  if (std::set<int>(e->layer_ids.begin(), e->layer_ids.end()).size() != e->layer_ids.size()) {
    fields->reject(ids, "every layer once");
  }
  fields->integer("engram_max_ngram_size", Need::kOptional, 2, kMaxNgram, &e->max_ngram_size);
  fields->integer("engram_n_heads", Need::kOptional, 1, kMaxNgramHeads, &e->n_heads);
  fields->integer("engram_head_dim", Need::kRequired, 1, kMaxRowWidth, &e->head_dim);
  fields->integer(
      "engram_compressed_vocab_size", Need::kRequired, 1, kMaxVocab, &e->compressed_vocab_size);
  fields->integer("engram_pad_token_id", Need::kOptional, 0, vocab - 1, &e->pad_token_id);
  if (fields->status().ok() && e->pad_token_id >= vocab) {
    fields->reject("engram_pad_token_id", "an id below vocab_size (2 when absent)");
  }
  fields->integer("engram_seed", Need::kOptional, 0, int64_t{1} << 62, &e->seed);
  fields->integer("engram_kernel_size", Need::kOptional, 0, 64, &e->kernel_size);
  e->conv_dilation = 0;
  fields->integer("engram_conv_dilation", Need::kOptional, 0, 4096, &e->conv_dilation);
  if (e->conv_dilation == 0) e->conv_dilation = e->max_ngram_size;
  fields->number("engram_norm_eps", Need::kOptional, 1e-30, 1, &e->norm_eps);
  fields->number("engram_conv_norm_eps", Need::kOptional, 1e-30, 1, &e->conv_norm_eps);
  fields->boolean("engram_bias", &e->bias);
  if (fields->status().ok()) read_table_sizes(fields, e);
}

Result<json> parse_object(const std::string& text, const std::string& file) {
  Result<json> root = memory::parse_json(text, file);
  if (root.ok() && !root.value().is_object()) {
    return memory::invalid_argument(
        file + ": is " + memory::json_excerpt(root.value()) + ", expected an object");
  }
  return root;
}

}  // namespace

int ModelConfig::engram_index(int layer) const {
  const auto at = std::find(engram.layer_ids.begin(), engram.layer_ids.end(), layer);
  return at == engram.layer_ids.end() ? -1 : static_cast<int>(at - engram.layer_ids.begin());
}

Result<ModelConfig> parse_config(const std::string& text, const std::string& file) {
  const Result<json> root = parse_object(text, file);
  if (!root.ok()) return root.status();
  ModelConfig config;
  JsonFields fields(root.value(), file + ": ");
  read_architecture(&fields, &config);
  refuse_later_families(&fields);
  read_backbone(&fields, &config);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  ENGRAM_RETURN_IF_ERROR(read_rope(root.value(), file, &config));
  ENGRAM_RETURN_IF_ERROR(read_quantization(root.value(), file, &config.quantization));
  read_token_ids(&fields, &config);
  refuse_unknown_engram_fields(root.value(), &fields);
  read_engram(&fields, config.num_hidden_layers, config.vocab_size, &config.engram);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  return config;
}

Result<ModelConfig> load_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  const Result<std::string> text = memory::read_text_file(file, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  return parse_config(text.value(), file);
}

Result<EngramConfig> load_engram_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  const Result<std::string> text = memory::read_text_file(file, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  const Result<json> root = parse_object(text.value(), file);
  if (!root.ok()) return root.status();
  int layers = 0;
  int64_t vocab = 0;
  EngramConfig config;
  JsonFields fields(root.value(), file + ": ");
  fields.integer("num_hidden_layers", Need::kRequired, 1, 4096, &layers);
  fields.integer("vocab_size", Need::kRequired, 1, kMaxVocab, &vocab);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  refuse_unknown_engram_fields(root.value(), &fields);
  read_engram(&fields, layers, vocab, &config);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  return config;
}

Result<GenerationDefaults> parse_generation_defaults(
    const std::string& text, const std::string& file) {
  const Result<json> root = parse_object(text, file);
  if (!root.ok()) return root.status();
  GenerationDefaults defaults;
  defaults.present = true;
  JsonFields fields(root.value(), file + ": ");
  fields.number("temperature", Need::kOptional, 0, 100, &defaults.temperature);
  fields.number("top_p", Need::kOptional, 1e-6, 1, &defaults.top_p);
  fields.integer("top_k", Need::kOptional, 0, kMaxVocab, &defaults.top_k);
  fields.number("min_p", Need::kOptional, 0, 1, &defaults.min_p);
  fields.number("repetition_penalty", Need::kOptional, 0.01, 100, &defaults.repetition_penalty);
  fields.integer("max_new_tokens", Need::kOptional, 1, int64_t{1} << 30, &defaults.max_new_tokens);
  fields.integers("eos_token_id", Need::kOptional, true, 0, kMaxVocab - 1, &defaults.eos_token_ids);
  bool sample = true;
  fields.boolean("do_sample", &sample);
  if (!sample) defaults.temperature = 0;
  ENGRAM_RETURN_IF_ERROR(fields.status());
  return defaults;
}

Result<GenerationDefaults> load_generation_defaults(const std::string& directory) {
  const std::string file = directory + "/generation_config.json";
  const Result<std::string> text = memory::read_text_file(file, kMaxConfigBytes);
  if (text.status().code() == memory::Code::kNotFound) return GenerationDefaults{};
  if (!text.ok()) return text.status();
  return parse_generation_defaults(text.value(), file);
}

std::string describe(const GenerationDefaults& defaults) {
  const GenerationDefaults plain;
  std::ostringstream text;
  const auto add = [&text](const char* name, auto value, auto standard) {
    if (value != standard) text << (text.tellp() > 0 ? ", " : "") << name << " " << value;
  };
  add("temperature", defaults.temperature, plain.temperature);
  add("top_p", defaults.top_p, plain.top_p);
  add("top_k", defaults.top_k, plain.top_k);
  add("min_p", defaults.min_p, plain.min_p);
  add("repetition_penalty", defaults.repetition_penalty, plain.repetition_penalty);
  add("max_new_tokens", defaults.max_new_tokens, plain.max_new_tokens);
  return text.str();
}

}  // namespace engram::engine

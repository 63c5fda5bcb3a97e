// What config.json may say, and what is refused: every field's type, range and default.
#include "engine/model/config.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/support/checkpoints.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Code;
using memory::Result;
using nlohmann::json;

json minimal() {
  return json::parse(R"({
    "architectures": ["EngramForCausalLM"], "hidden_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "intermediate_size": 160, "vocab_size": 512,
    "max_position_embeddings": 1024})");
}

json with_engram() {
  json config = minimal();
  config["engram_layer_ids"] = {1, 3};
  config["engram_vocab_size"] = 1000;
  config["engram_head_dim"] = 16;
  config["engram_compressed_vocab_size"] = 400;
  return config;
}

ModelConfig parse(const json& config) {
  Result<ModelConfig> result = parse_config(config.dump(), "config.json");
  INFO(result.status().to_string());
  REQUIRE(result.ok());
  return result.value();
}

TEST_CASE("absent fields have the format's defaults", "[config]") {
  const ModelConfig c = parse(minimal());
  CHECK(c.num_key_value_heads == 4);
  CHECK(c.head_dim == 16);
  CHECK(c.rms_norm_eps == 1e-6);
  CHECK_FALSE(c.tie_word_embeddings);
  CHECK(c.rope_theta == 10000.0);
  CHECK(c.rope_scaling.kind == RopeScaling::Kind::kNone);
  CHECK_FALSE(c.qk_norm);
  CHECK_FALSE(c.attention_bias);
  CHECK(c.hc_mult == 1);
  CHECK(c.engram.layer_ids.empty());
  CHECK(c.engram_index(1) == -1);
  CHECK(c.bos_token_id == -1);
  CHECK(c.eos_token_ids.empty());

  const EngramConfig e = parse(with_engram()).engram;
  CHECK(e.max_ngram_size == 3);
  CHECK(e.vocab_size == std::vector<int64_t>{1000, 1000});
  CHECK(e.n_heads == 8);
  CHECK(e.pad_token_id == 2);
  CHECK(e.seed == 0);
  CHECK(e.kernel_size == 4);
  CHECK(e.conv_dilation == 3);
  CHECK(e.norm_eps == 1.1920929e-07);
  CHECK(e.conv_norm_eps == 1e-5);
  CHECK_FALSE(e.bias);
}

TEST_CASE("null counts as absent", "[config]") {
  json config = with_engram();
  for (const char* field :
       {"head_dim", "rope_scaling", "rope_parameters", "num_key_value_heads", "pad_token_id",
        "eos_token_id", "engram_conv_dilation", "engram_seed", "quantization_config"}) {
    config[field] = nullptr;
  }
  const ModelConfig c = parse(config);
  CHECK(c.head_dim == 16);
  CHECK(c.engram.conv_dilation == 3);
}

TEST_CASE("fields are read", "[config]") {
  json config = with_engram();
  config.update(json::parse(R"({
    "num_key_value_heads": 2, "head_dim": 32, "qk_norm": true, "attention_bias": true,
    "tie_word_embeddings": true, "rms_norm_eps": 1e-5, "rope_theta": 500000,
    "bos_token_id": 5, "eos_token_id": [6, 7], "pad_token_id": 8,
    "engram_layer_ids": [3, 0], "engram_max_ngram_size": 4, "engram_vocab_size": [700, 800, 900],
    "engram_n_heads": 2, "engram_pad_token_id": 300, "engram_seed": 9, "engram_kernel_size": 0,
    "engram_conv_dilation": 5, "engram_norm_eps": 1e-20, "engram_conv_norm_eps": 2e-5,
    "engram_bias": true})"));
  const ModelConfig c = parse(config);
  CHECK(c.architecture == "EngramForCausalLM");
  CHECK(c.num_key_value_heads == 2);
  CHECK(c.head_dim == 32);
  CHECK(c.qk_norm);
  CHECK(c.attention_bias);
  CHECK(c.tie_word_embeddings);
  CHECK(c.rope_theta == 500000.0);
  CHECK(c.bos_token_id == 5);
  CHECK(c.eos_token_ids == std::vector<int32_t>{6, 7});
  CHECK(c.pad_token_id == 8);
  CHECK(c.engram.layer_ids == std::vector<int>{3, 0});
  CHECK(c.engram_index(0) == 1);
  CHECK(c.engram_index(3) == 0);
  CHECK(c.engram_index(1) == -1);
  CHECK(c.engram.vocab_size == std::vector<int64_t>{700, 800, 900});
  CHECK(c.engram.columns() == 6);
  CHECK(c.engram.vector_width() == 96);
  CHECK(c.engram.pad_token_id == 300);
  CHECK(c.engram.seed == 9);
  CHECK(c.engram.kernel_size == 0);
  CHECK(c.engram.conv_dilation == 5);
  CHECK(c.engram.norm_eps == 1e-20);
  CHECK(c.engram.bias);
}

TEST_CASE("published backbones have their own defaults", "[config]") {
  json config = minimal();
  config["architectures"] = {"Qwen3ForCausalLM"};
  config["eos_token_id"] = 3;
  const ModelConfig qwen = parse(config);
  CHECK(qwen.qk_norm);
  CHECK(qwen.eos_token_ids == std::vector<int32_t>{3});
  config["architectures"] = {"LlamaForCausalLM"};
  CHECK_FALSE(parse(config).qk_norm);
}

TEST_CASE("fp8 weights are for the modules that are not taken out", "[config]") {
  json config = with_engram();
  CHECK_FALSE(parse(config).quantization.any());
  config["quantization_config"] = json::parse(R"({
    "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "dequantize": false,
    "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "layers.1", "mlp.up_proj"],
    "ignored_layers": null})");
  const WeightQuantization q = parse(config).quantization;
  CHECK(q.stored);
  CHECK(q.any());
  CHECK_FALSE(q.online);
  CHECK_FALSE(q.converts("lm_head"));
  CHECK_FALSE(q.converts("model.layers.1.mlp.gate_proj"));
  CHECK_FALSE(q.converts("model.layers.10.mlp.up_proj"));
  CHECK(q.converts("model.layers.10.mlp.gate_proj"));
  CHECK(q.converts("model.layers.0.self_attn.up_proj"));
  config["quantization_config"].erase("modules_to_not_convert");
  CHECK(parse(config).quantization.converts("model.layers.1.mlp.gate_proj"));
}

TEST_CASE("the checkpoints of the tests parse", "[config]") {
  for (const std::string& directory :
       {tests::demo_directory(), tests::checkpoint_directory("tiny-engram"),
        tests::checkpoint_directory("tiny-llama3-rope"),
        tests::checkpoint_directory("tiny-qwen3-engram"),
        tests::checkpoint_directory("tiny-engram-bias"),
        tests::checkpoint_directory("tiny-engram-yarn"),
        tests::checkpoint_directory("tiny-fp8-weights")}) {
    const Result<ModelConfig> config = load_config(directory);
    INFO(config.status().to_string());
    REQUIRE(config.ok());
    CHECK(config.value().eos_token_ids == std::vector<int32_t>{1});
    CHECK(load_generation_defaults(directory).value().present);
  }
}

TEST_CASE("bad configurations are refused by field", "[config]") {
  struct Case {
    const char* patch;  // merged into a good configuration; null removes a field
    Code code;
    const char* words;
  };
  const Code invalid = Code::kInvalidArgument;
  const Code later = Code::kUnimplemented;
  const Case cases[] = {
      {R"({"architectures": null})", invalid, "architectures is absent"},
      {R"({"architectures": "EngramForCausalLM"})", invalid, "architectures is \"Engram"},
      {R"({"architectures": []})", invalid, "architectures is []"},
      {R"({"architectures": [3]})", invalid, "architectures is [3]"},
      {R"({"architectures": ["GPT2LMHeadModel"]})", later,
       "architectures is [\"GPT2LMHeadModel\"]"},
      {R"({"architectures": ["DeepseekV3ForCausalLM"]})", later, "this version serves Engram"},
      {R"({"hidden_size": null})", invalid, "hidden_size is missing"},
      {R"({"hidden_size": 0})", invalid, "hidden_size is 0, expected a whole number from 1"},
      {R"({"hidden_size": -64})", invalid, "hidden_size is -64"},
      {R"({"hidden_size": 64.0})", invalid, "hidden_size is 64.0"},
      {R"({"hidden_size": "64"})", invalid, "hidden_size is \"64\""},
      {R"({"hidden_size": [64]})", invalid, "hidden_size is [64]"},
      {R"({"hidden_size": 18446744073709551615})", invalid, "hidden_size is 18446744073709551615"},
      {R"({"hidden_size": 1e30})", invalid, "hidden_size is 1e+30"},
      {R"({"hidden_size": 66})", invalid, "num_attention_heads does not divide hidden_size"},
      {R"({"hidden_size": 20})", invalid, "head_dim is absent, expected an even number"},
      {R"({"num_hidden_layers": 0})", invalid, "num_hidden_layers is 0"},
      {R"({"num_hidden_layers": 5000})", invalid, "num_hidden_layers is 5000"},
      {R"({"vocab_size": 4194305})", invalid, "vocab_size is 4194305"},
      {R"({"num_attention_heads": 0})", invalid, "num_attention_heads is 0"},
      {R"({"num_key_value_heads": 0})", invalid, "num_key_value_heads is 0"},
      {R"({"num_key_value_heads": 3})", invalid, "a divisor of num_attention_heads"},
      {R"({"num_key_value_heads": 8})", invalid, "a divisor of num_attention_heads"},
      {R"({"head_dim": 15})", invalid, "head_dim is 15, expected an even number"},
      {R"({"head_dim": 0})", invalid, "head_dim is 0"},
      {R"({"intermediate_size": null})", invalid, "intermediate_size is missing"},
      {R"({"max_position_embeddings": null})", invalid, "max_position_embeddings is missing"},
      {R"({"rms_norm_eps": 0})", invalid, "rms_norm_eps is 0"},
      {R"({"rms_norm_eps": "1e-6"})", invalid, "rms_norm_eps is \"1e-6\""},
      {R"({"tie_word_embeddings": 1})", invalid,
       "tie_word_embeddings is 1, expected true or false"},
      {R"({"qk_norm": "yes"})", invalid, "qk_norm is \"yes\""},
      {R"({"hidden_act": "gelu"})", later, "hidden_act is \"gelu\", this version serves silu"},
      {R"({"hidden_act": 3})", invalid, "hidden_act is 3, expected a string"},
      {R"({"attention_type": "mla"})", later, "attention_type is \"mla\""},
      {R"({"attention_type": "sparse"})", invalid, "attention_type is \"sparse\""},
      {R"({"n_routed_experts": 8})", later, "n_routed_experts is 8"},
      {R"({"hc_mult": 4})", later, "hc_mult is 4"},
      {R"({"hc_mult": 0})", invalid, "hc_mult is 0"},
      {R"({"mlp_bias": true})", later, "mlp_bias is true"},
      {R"({"use_sliding_window": true})", later, "use_sliding_window is true"},
      {R"({"partial_rotary_factor": 0.5})", later, "partial_rotary_factor is 0.5"},
      {R"({"quantization_config": "fp8"})", invalid, "quantization_config is \"fp8\""},
      {R"({"quantization_config": {"bits": 4}})", invalid,
       "quantization_config.quant_method is absent, expected fp8"},
      {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})", later,
       "quantization_config.quant_method is \"gptq\", this version serves fp8"},
      {R"({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}})", later,
       "quantization_config.fmt is \"e5m2\""},
      {R"({"quantization_config": {"quant_method": "fp8"}})", later,
       "quantization_config.weight_block_size is absent, this version serves [128,128]"},
      {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 128]}})", later,
       "quantization_config.weight_block_size is [64,128]"},
      {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
           "activation_scheme": "static"}})",
       later, "quantization_config.activation_scheme is \"static\""},
      {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
           "modules_to_not_convert": "lm_head"}})",
       invalid, "quantization_config.modules_to_not_convert is \"lm_head\", expected a list"},
      {R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
           "scale_fmt": "ue8m0"}})",
       later, "quantization_config.scale_fmt is \"ue8m0\""},
      {R"({"layer_types": ["full_attention", "sliding_attention"]})", later, "layer_types is"},
      {R"({"bos_token_id": 512})", invalid, "bos_token_id is 512"},
      {R"({"eos_token_id": [1, 512]})", invalid, "eos_token_id is [1,512]"},
      {R"({"eos_token_id": "</s>"})", invalid, "a whole number or a list"},
      {R"({"rope_theta": 0})", invalid, "rope_theta is 0"},
      {R"({"rope_theta": 1})", invalid, "rope_theta is 1"},
      {R"({"rope_scaling": "linear"})", invalid, "rope_scaling is \"linear\", expected an object"},
      {R"({"rope_scaling": {"type": "linear"}})", invalid, "rope_scaling.factor is missing"},
      {R"({"rope_scaling": {"type": "linear", "factor": 0}})", invalid, "rope_scaling.factor is 0"},
      {R"({"rope_scaling": {"type": 5}})", invalid, "rope_scaling.type is 5"},
      {R"({"rope_scaling": {"rope_type": "longrope", "factor": 2}})", later,
       "rope_scaling.rope_type is \"longrope\""},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1}})", invalid,
       "rope_scaling.high_freq_factor is missing"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
           "high_freq_factor": 4}})",
       invalid, "rope_scaling.high_freq_factor is 4, expected more than low_freq_factor"},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 0}})", invalid,
       "rope_scaling.attention_factor is 0"},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4, "truncate": 0}})", invalid,
       "rope_scaling.truncate is 0"},
      {R"({"rope_parameters": {"rope_type": "default"}})", invalid,
       "rope_parameters.rope_theta is missing"},
      {R"({"engram_layer_ids": [4]})", invalid, "engram_layer_ids is [4]"},
      {R"({"engram_layer_ids": [-1]})", invalid, "engram_layer_ids is [-1]"},
      {R"({"engram_layer_ids": 1})", invalid, "engram_layer_ids is 1, expected a list"},
      {R"({"engram_layer_ids": [1, 1]})", invalid, "engram_layer_ids is [1,1], expected every"},
      {R"({"engram_max_ngram_size": 1})", invalid, "engram_max_ngram_size is 1"},
      {R"({"engram_max_ngram_size": 17})", invalid, "engram_max_ngram_size is 17"},
      {R"({"engram_vocab_size": null})", invalid, "engram_vocab_size is missing"},
      {R"({"engram_vocab_size": [1000]})", invalid,
       "engram_vocab_size is [1000], expected one size"},
      {R"({"engram_vocab_size": [1000, 0]})", invalid, "engram_vocab_size is [1000,0]"},
      {R"({"engram_vocab_size": 20000000000})", invalid, "engram_vocab_size is 20000000000"},
      {R"({"engram_n_heads": 0})", invalid, "engram_n_heads is 0"},
      {R"({"engram_head_dim": null})", invalid, "engram_head_dim is missing"},
      {R"({"engram_head_dim": 10000})", invalid, "engram_head_dim is 10000"},
      {R"({"engram_compressed_vocab_size": 0})", invalid, "engram_compressed_vocab_size is 0"},
      {R"({"engram_compressed_vocab_size": null})", invalid,
       "engram_compressed_vocab_size is missing"},
      {R"({"engram_pad_token_id": 512})", invalid, "engram_pad_token_id is 512"},
      {R"({"engram_pad_token_id": -1})", invalid, "engram_pad_token_id is -1"},
      {R"({"engram_seed": -1})", invalid, "engram_seed is -1"},
      {R"({"engram_seed": 1.5})", invalid, "engram_seed is 1.5"},
      {R"({"engram_kernel_size": 65})", invalid, "engram_kernel_size is 65"},
      {R"({"engram_conv_dilation": -1})", invalid, "engram_conv_dilation is -1"},
      {R"({"engram_norm_eps": -1e-6})", invalid, "engram_norm_eps is -1e-06"},
      {R"({"engram_bias": "false"})", invalid, "engram_bias is \"false\""},
      {R"({"engram_hash": "xxh3"})", later, "engram_hash is \"xxh3\""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.patch);
    json config = with_engram();
    config.merge_patch(json::parse(c.patch));
    const memory::Status status = parse_config(config.dump(), "some/config.json").status();
    CHECK(status.code() == c.code);
    CHECK_THAT(status.message(), Catch::StartsWith("some/config.json: "));
    CHECK_THAT(status.message(), Catch::Contains(c.words));
  }
}

TEST_CASE("a pad of 2 needs a vocabulary of 3", "[config]") {
  json config = with_engram();
  config["vocab_size"] = 2;
  CHECK_THAT(
      parse_config(config.dump(), "config.json").status().message(),
      Catch::Contains("engram_pad_token_id is absent, expected an id below vocab_size"));
}

TEST_CASE("the columns of all layers are bounded", "[config]") {
  json config = with_engram();
  config["num_hidden_layers"] = 64;
  config["engram_layer_ids"] = json::array();
  for (int layer = 0; layer < 64; ++layer) config["engram_layer_ids"].push_back(layer);
  config["engram_n_heads"] = 256;
  CHECK_THAT(
      parse_config(config.dump(), "config.json").status().message(),
      Catch::Contains("at most 16384 table columns"));
}

TEST_CASE("text that is no configuration is refused", "[config]") {
  const auto message = [](const std::string& text) {
    const memory::Status status = parse_config(text, "config.json").status();
    CHECK(status.code() == Code::kInvalidArgument);
    return status.message();
  };
  CHECK(message("") == "config.json: not valid JSON at byte 1");
  CHECK(message("[1]") == "config.json: is [1], expected an object");
  CHECK_THAT(message("{\"a\": 1,}"), Catch::Contains("not valid JSON at byte"));
  CHECK_THAT(message("{\"a\": 1e999}"), Catch::Contains("not valid JSON at byte"));
  CHECK_THAT(
      message(R"({"hidden_size": 64, "hidden_size": 65})"),
      Catch::Contains("duplicate key \"hidden_size\""));
  CHECK_THAT(message(std::string(100000, '[')), Catch::Contains("deeper than 64 levels"));
}

TEST_CASE("a directory without config.json is not found", "[config]") {
  tests::TempDirectory directory;
  CHECK(load_config(directory.path()).status().code() == Code::kNotFound);
  CHECK_FALSE(load_generation_defaults(directory.path()).value().present);
}

TEST_CASE("generation defaults are read and bounded", "[config]") {
  const auto defaults = parse_generation_defaults(
      R"({"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1,
          "max_new_tokens": 256, "eos_token_id": [1, 2], "transformers_version": "4.51.0", "do_sample": true})",
      "generation_config.json");
  REQUIRE(defaults.ok());
  const GenerationDefaults& g = defaults.value();
  CHECK(g.present);
  CHECK(g.temperature == 0.7);
  CHECK(g.top_p == 0.9);
  CHECK(g.top_k == 20);
  CHECK(g.min_p == 0.1);
  CHECK(g.repetition_penalty == 1.1);
  CHECK(g.max_new_tokens == 256);
  CHECK(
      describe(g) ==
      "temperature 0.7, top_p 0.9, top_k 20, min_p 0.1, repetition_penalty 1.1, max_new_tokens "
      "256");
  CHECK(g.eos_token_ids == std::vector<int32_t>{1, 2});
  CHECK(parse_generation_defaults("{}", "g").value().temperature == 1.0);
  CHECK(parse_generation_defaults(R"({"temperature": null})", "g").value().temperature == 1.0);
  CHECK(describe(parse_generation_defaults("{}", "g").value()).empty());
  CHECK(parse_generation_defaults(R"({"do_sample": false})", "g").value().temperature == 0.0);

  for (const char* bad :
       {R"({"temperature": -1})", R"({"temperature": "hot"})", R"({"top_p": 0})", R"({"top_p": 2})",
        R"({"top_k": -1})", R"({"max_new_tokens": 0})", R"({"max_new_tokens": 2.5})",
        R"({"min_p": 1.5})", R"({"repetition_penalty": 0})", R"({"eos_token_id": -3})",
        R"({"do_sample": 1})", "[]", "{"}) {
    CAPTURE(bad);
    const memory::Status status = parse_generation_defaults(bad, "g.json").status();
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(status.message(), Catch::StartsWith("g.json: "));
  }
}

// Computed by rope_frequencies() of tests/support/reference/engram_reference.py.
TEST_CASE("rotation frequencies are the reference's", "[config][rope]") {
  struct Case {
    const char* fields;
    double scale;
    std::vector<double> frequencies;
  };
  const Case cases[] = {
      {R"({})",
       1.0,
       {1.0, 0.31622776601683794, 0.09999999999999999, 0.03162277660168379, 0.01,
        0.0031622776601683794, 0.001, 0.00031622776601683794}},
      {R"({"rope_theta": 500000.0})",
       1.0,
       {1.0, 0.19392274474868576, 0.03760603093086393, 0.0072926647372171085, 0.0014142135623730952,
        0.0002742481756762073, 5.318295896944988e-05, 1.0313385377212458e-05}},
      {R"({"rope_scaling": {"rope_type": "default"}})",
       1.0,
       {1.0, 0.31622776601683794, 0.09999999999999999, 0.03162277660168379, 0.01,
        0.0031622776601683794, 0.001, 0.00031622776601683794}},
      {R"({"rope_scaling": {"type": "linear", "factor": 2.5}})",
       1.0,
       {0.4, 0.12649110640673517, 0.039999999999999994, 0.012649110640673516, 0.004,
        0.0012649110640673518, 0.0004, 0.00012649110640673518}},
      {R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})",
       1.0,
       {1.0, 0.19392274474868576, 0.03760603093086393, 0.0072926647372171085, 0.0005248461609929549,
        3.428102195952591e-05, 6.647869871181235e-06, 1.2891731721515572e-06}},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}})",
       1.0,
       {1.0, 0.31622776601683794, 0.09999999999999999, 0.03162277660168379, 0.00234605678490534,
        9.882117688026186e-05, 3.125e-05, 9.882117688026186e-06}},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}})",
       1.138629436111989,
       {1.0, 0.23717082451262847, 0.049999999999999996, 0.007905694150420948, 0.0025,
        0.0007905694150420948, 0.00025, 7.905694150420948e-05}},
      {R"({"rope_scaling": {"type": "yarn", "factor": 40.0, "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.707, "original_max_position_embeddings": 128}})",
       1.0857263992561355,
       {1.0, 0.21345374206136564, 0.034999999999999996, 0.0007905694150420947, 0.00025,
        7.905694150420948e-05, 2.5e-05, 7.905694150420949e-06}},
      {R"({"rope_scaling": {"type": "yarn", "factor": 4.0, "truncate": false, "attention_factor": 1.25, "beta_fast": 0}})",
       1.25,
       {1.0, 0.31622776601683794, 0.08539863663460477, 0.019126775831483752, 0.0035569715211294347,
        0.0007905694150420948, 0.00025, 7.905694150420948e-05}},
      {R"({"rope_scaling": {"type": "yarn", "factor": 0.5, "mscale": 0, "mscale_all_dim": 1.0}})",
       1.0,
       {1.0, 0.31622776601683794, 0.125, 0.04743416490252569, 0.017499999999999998,
        0.006324555320336759, 0.002, 0.0006324555320336759}},
      {R"({"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1000000000, "beta_fast": 1, "beta_slow": 1}})",
       1.0693147180559945,
       {0.5, 0.15811388300841897, 0.049999999999999996, 0.015811388300841896, 0.005,
        0.0015811388300841897, 0.0005, 0.00015811388300841897}},
      {R"({"rope_theta": 5, "rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "yarn", "rope_theta": 20000.0, "factor": 4.0, "original_max_position_embeddings": 256}})",
       1.138629436111989,
       {1.0, 0.2174866050082658, 0.042044820762685724, 0.00609612355057171, 0.0017677669529663688,
        0.0005126208440619497, 0.00014865088937534012, 4.310610301560269e-05}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.fields);
    json config = minimal();
    config["head_dim"] = 16;
    config.update(json::parse(c.fields));
    const RopeFrequencies rope = rope_frequencies(parse(config));
    CHECK(rope.scale == Approx(c.scale).epsilon(1e-14));
    REQUIRE(rope.frequencies.size() == c.frequencies.size());
    for (size_t i = 0; i < c.frequencies.size(); ++i) {
      CHECK(rope.frequencies[i] == Approx(c.frequencies[i]).epsilon(1e-13));
    }
  }
}

}  // namespace
}  // namespace engram::engine

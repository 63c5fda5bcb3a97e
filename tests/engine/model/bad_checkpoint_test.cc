// Broken checkpoints are refused with a message that names file, tensor or field, expected and
// found; before large memory is taken, and never with a crash.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>

#include "engine/model/hash_constants.h"
#include "engine/model/weights.h"
#include "tests/support/bytes.h"
#include "tests/support/checkpoints.h"
#include "tests/support/edited_checkpoint.h"
#include "tests/support/recording_ops.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Code;
using memory::Status;
using tests::EditedCheckpoint;
using tests::StoredTensor;
using tests::TempDirectory;

constexpr int64_t kTokens = 1000;  // of tiny-engram's tokenizer
constexpr const char* kLayer1 = "model.layers.1.engram.";

// What loading the directory ends in, and that nothing was allocated when it failed.
Status load_status(const std::string& directory, int64_t tokens) {
  const memory::Result<ModelConfig> config = load_config(directory);
  if (!config.ok()) return config.status();
  const auto device = memory::make_cpu_device(1);
  tests::RecordingOps ops;
  const Status status = load_weights(directory, config.value(), tokens, *device, ops, {}).status();
  if (!status.ok()) CHECK(device->allocated_bytes() == 0);
  return status;
}

struct Case {
  const char* name;
  std::function<void(EditedCheckpoint&)> edit;
  const char* words;
};

void check_case(const Case& c, const EditedCheckpoint& good, int64_t tokens) {
  CAPTURE(c.name);
  EditedCheckpoint edited = good;
  c.edit(edited);
  TempDirectory directory;
  edited.write(directory.path());
  const Status status = load_status(directory.path(), tokens);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains(c.words));
  CHECK_THAT(status.message(), Catch::Contains(directory.path()));
}

std::string layer1(const char* name) {
  return kLayer1 + std::string(name);
}

// Drops the last row of a tensor.
void drop_row(StoredTensor& tensor) {
  const size_t row = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
  --tensor.shape[0];
  tensor.bytes.resize(tensor.bytes.size() - row);
}

void add_row(StoredTensor& tensor) {
  const size_t row = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
  ++tensor.shape[0];
  tensor.bytes.append(row, '\0');
}

uint16_t bf16(float value) {
  return memory::Bf16(value).bits;
}

const float kNan = std::nanf("");

TEST_CASE("an edited checkpoint without an edit loads", "[bad_checkpoint]") {
  TempDirectory directory;
  EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram")).write(directory.path());
  CHECK(load_status(directory.path(), kTokens).to_string() == "OK");
}

TEST_CASE("broken tensors are refused", "[bad_checkpoint]") {
  const Case cases[] = {
      {"missing embedding",
       [](EditedCheckpoint& c) { c.tensors.erase("model.embed_tokens.weight"); },
       "tensor model.embed_tokens.weight is missing"},
      {"missing head of an untied model",
       [](EditedCheckpoint& c) { c.tensors.erase("lm_head.weight"); },
       "tensor lm_head.weight is missing"},
      {"missing part of a fused matrix",
       [](EditedCheckpoint& c) { c.tensors.erase("model.layers.2.self_attn.k_proj.weight"); },
       "tensor model.layers.2.self_attn.k_proj.weight is missing"},
      {"missing norm",
       [](EditedCheckpoint& c) { c.tensors.erase("model.layers.3.self_attn.q_norm.weight"); },
       "tensor model.layers.3.self_attn.q_norm.weight is missing"},
      {"missing convolution", [](EditedCheckpoint& c) { c.tensors.erase(layer1("conv.weight")); },
       "engram.conv.weight is missing"},
      {"missing table", [](EditedCheckpoint& c) { c.tensors.erase(layer1("embedding.weight")); },
       "engram.embedding.weight is missing"},
      {"missing multipliers", [](EditedCheckpoint& c) { c.tensors.erase(layer1("multipliers")); },
       "engram.multipliers is missing"},
      {"missing moduli", [](EditedCheckpoint& c) { c.tensors.erase(layer1("moduli")); },
       "engram.moduli is missing"},
      {"missing token map", [](EditedCheckpoint& c) { c.tensors.erase("model.engram_token_map"); },
       "tensor model.engram_token_map is missing"},
      {"surplus tensor",
       [](EditedCheckpoint& c) {
         c.tensors["model.layers.0.mlp.extra"] = {"F32", {1}, "1234"};
       },
       "model.layers.0.mlp.extra: is a surplus tensor"},
      {"layer beyond the last",
       [](EditedCheckpoint& c) {
         c.tensors["model.layers.4.input_layernorm.weight"] =
             c.at("model.layers.0.input_layernorm.weight");
       },
       "model.layers.4.input_layernorm.weight: is a surplus tensor"},
      {"Engram in a block that has none",
       [](EditedCheckpoint& c) {
         c.tensors["model.layers.0.engram.moduli"] = c.at(layer1("moduli"));
       },
       "model.layers.0.engram.moduli: is a surplus tensor"},
      {"bias that config.json does not name",
       [](EditedCheckpoint& c) {
         c.tensors["model.layers.0.self_attn.q_proj.bias"] = {"BF16", {64}, std::string(128, '\0')};
       },
       "self_attn.q_proj.bias: is a surplus tensor"},
      {"scales without fp8",
       [](EditedCheckpoint& c) {
         c.tensors[layer1("embedding.scale")] = {"U8", {1, 1}, "1"};
       },
       "embedding.scale: is a surplus tensor"},
      {"head of a tied model", [](EditedCheckpoint& c) { c.config["tie_word_embeddings"] = true; },
       "lm_head.weight: is a surplus tensor"},
      {"one row too few",
       [](EditedCheckpoint& c) { drop_row(c.at("model.layers.1.mlp.up_proj.weight")); },
       "mlp.up_proj.weight: shape is [159, 64], expected [160, 64]"},
      {"transposed",
       [](EditedCheckpoint& c) {
         auto& shape = c.at("model.layers.1.mlp.down_proj.weight").shape;
         std::swap(shape[0], shape[1]);
       },
       "mlp.down_proj.weight: shape is [160, 64], expected [64, 160]"},
      {"norm as a matrix",
       [](EditedCheckpoint& c) {
         c.at("model.norm.weight").shape = {1, 64};
       },
       "model.norm.weight: shape is [1, 64], expected [64]"},
      {"convolution without its middle axis",
       [](EditedCheckpoint& c) {
         c.at(layer1("conv.weight")).shape = {64, 4};
       },
       "conv.weight: shape is [64, 4], expected [64, 1, 4]"},
      {"fp8 weight",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.layers.0.mlp.up_proj.weight");
         t.dtype = "F8_E4M3";
         t.bytes.resize(t.bytes.size() / 2);
       },
       "mlp.up_proj.weight: dtype is f8_e4m3, expected bf16 or f16 or f32"},
      {"integer norm",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.norm.weight");
         t.dtype = "U8";
         t.bytes.resize(t.bytes.size() / 2);
       },
       "model.norm.weight: dtype is u8"},
      {"unknown dtype", [](EditedCheckpoint& c) { c.at("model.norm.weight").dtype = "F4"; },
       "model.norm.weight: unknown dtype \"F4\""},
      {"two dtypes in one fused matrix",
       [](EditedCheckpoint& c) { c.at("model.layers.0.self_attn.v_proj.weight").dtype = "F16"; },
       "self_attn.v_proj.weight: dtype is f16, expected bf16"},
      {"NaN in a norm",
       [](EditedCheckpoint& c) {
         c.at("model.layers.2.input_layernorm.weight").set(7, bf16(kNan));
       },
       "model.layers.2.input_layernorm.weight: element 7 is nan, expected a finite number"},
      {"infinity in a norm of the memory",
       [](EditedCheckpoint& c) { c.at(layer1("key_norm.weight")).set(3, bf16(-INFINITY)); },
       "engram.key_norm.weight: element 3 is -inf, expected a finite number"},
  };
  const auto good = EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram"));
  for (const Case& c : cases) check_case(c, good, kTokens);
}

TEST_CASE("hash constants that differ from the derivation are refused", "[bad_checkpoint]") {
  const Case cases[] = {
      {"a multiplier differs",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.layers.3.engram.multipliers");
         t.set(1, t.get<int64_t>(1) + 2);
       },
       "layer 3: multipliers[1] is "},
      {"a modulus differs",
       [](EditedCheckpoint& c) { c.at(layer1("moduli")).set<int64_t>(5, 1511); },
       "layer 1: moduli[5] is 1511, expected "},
      {"multipliers of another seed", [](EditedCheckpoint& c) { c.config["engram_seed"] = 1; },
       "layer 1: multipliers[0] is "},
      {"moduli of another order of layers",
       [](EditedCheckpoint& c) {
         c.config["engram_layer_ids"] = {3, 1};
       },
       "layer 3: moduli[0] is "},
      {"moduli of other sizes",
       [](EditedCheckpoint& c) {
         c.config["engram_vocab_size"] = {1000, 1600};
       },
       "moduli[4] is "},
      {"too few multipliers", [](EditedCheckpoint& c) { drop_row(c.at(layer1("multipliers"))); },
       "engram.multipliers: shape is [2], expected [3]"},
      {"multipliers in 32 bits",
       [](EditedCheckpoint& c) {
         auto& t = c.at(layer1("multipliers"));
         t.dtype = "I32";
         t.bytes.resize(12);
       },
       "engram.multipliers: dtype is i32, expected i64"},
      {"one row too few for the moduli",
       [](EditedCheckpoint& c) { drop_row(c.at(layer1("embedding.weight"))); }, "rows, expected "},
      {"one row too many for the moduli",
       [](EditedCheckpoint& c) { add_row(c.at(layer1("embedding.weight"))); },
       "the sum of the moduli"},
      {"rows of another width", [](EditedCheckpoint& c) { c.config["engram_head_dim"] = 32; },
       // The projections come first: their width is that of all rows together.
       "engram.key_proj.weight: shape is [64, 128], expected [64, 256]"},
      {"integer rows",
       [](EditedCheckpoint& c) {
         auto& t = c.at(layer1("embedding.weight"));
         t.dtype = "U8";
         t.bytes.resize(t.bytes.size() / 2);
       },
       "engram.embedding.weight: dtype is u8, expected bf16 or f16 or f32 or f8_e4m3"},
      {"map one id short", [](EditedCheckpoint& c) { drop_row(c.at("model.engram_token_map")); },
       "model.engram_token_map: has 999 entries, expected 1000, one per id of the tokenizer"},
      {"map in 64 bits",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.engram_token_map");
         t.dtype = "I64";
         t.bytes.append(t.bytes.size(), '\0');
       },
       "model.engram_token_map: dtype is i64, expected i32"},
      {"map holds an id of C",
       [](EditedCheckpoint& c) {
         c.at("model.engram_token_map")
             .set(999, c.config["engram_compressed_vocab_size"].get<int32_t>());
       },
       "model.engram_token_map: entry 999 is "},
      {"map holds a negative id",
       [](EditedCheckpoint& c) { c.at("model.engram_token_map").set<int32_t>(17, -1); },
       "model.engram_token_map: entry 17 is -1, expected a canonical id from 0"},
      {"ids in another order of first appearance",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.engram_token_map");
         const int32_t a = t.get<int32_t>(5);
         t.set(5, t.get<int32_t>(6));
         t.set(6, a);
       },
       "model.engram_token_map: entry 5 is 6, expected at most 5: ids first appear in ascending"},
      {"fewer canonical ids than config.json says",
       [](EditedCheckpoint& c) {
         auto& t = c.at("model.engram_token_map");
         const int32_t last = c.config["engram_compressed_vocab_size"].get<int32_t>() - 1;
         for (size_t i = 0; i < 1000; ++i) {
           if (t.get<int32_t>(i) == last) t.set<int32_t>(i, 0);
         }
       },
       "(engram_compressed_vocab_size)"},
      {"pad beyond the tokenizer",
       [](EditedCheckpoint& c) { c.config["engram_pad_token_id"] = 1010; },
       "engram_pad_token_id is 1010, expected an id below 1000"},
  };
  const auto good = EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram"));
  for (const Case& c : cases) check_case(c, good, kTokens);
}

TEST_CASE("broken scales are refused", "[bad_checkpoint]") {
  const Case cases[] = {
      {"missing scales", [](EditedCheckpoint& c) { c.tensors.erase(layer1("embedding.scale")); },
       "engram.embedding.scale is missing"},
      {"one row of scales too few",
       [](EditedCheckpoint& c) { drop_row(c.at(layer1("embedding.scale"))); },
       "engram.embedding.scale: shape is ["},
      {"scales as floats",
       [](EditedCheckpoint& c) {
         auto& t = c.at(layer1("embedding.scale"));
         t.dtype = "F32";
         t.bytes.append(3 * t.bytes.size(), '\0');
       },
       "engram.embedding.scale: dtype is f32, expected u8 or f8_e8m0"},
      {"width that is no multiple of 32",
       [](EditedCheckpoint& c) {
         // Both tables of half the width; the projections follow.
         c.config["engram_head_dim"] = 16;
         for (const char* layer : {"1", "3"}) {
           const std::string p = "model.layers." + std::string(layer) + ".engram.";
           for (const char* name : {"key_proj.weight", "value_proj.weight", "embedding.weight"}) {
             auto& t = c.at(p + name);
             t.shape[1] /= 2;
             t.bytes.resize(t.bytes.size() / 2);
           }
         }
       },
       "f8_e4m3 rows of 16 values, expected a multiple of 32"},
  };
  const auto good = EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram-fp8"));
  for (const Case& c : cases) check_case(c, good, 768);
}

TEST_CASE("broken fp8 weights are refused", "[bad_checkpoint][fp8]") {
  const auto good = EditedCheckpoint::read(tests::checkpoint_directory("tiny-fp8-weights"));
  static const std::string up = "model.layers.1.mlp.up_proj.weight";
  const Case cases[] = {
      {"missing scales", [](EditedCheckpoint& c) { c.tensors.erase(up + "_scale_inv"); },
       "tensor model.layers.1.mlp.up_proj.weight_scale_inv is missing"},
      {"too few scales", [](EditedCheckpoint& c) { drop_row(c.at(up + "_scale_inv")); },
       "up_proj.weight_scale_inv: shape is [2, 2], expected [3, 2]"},
      {"one scale per row",
       [](EditedCheckpoint& c) {
         c.at(up + "_scale_inv").shape = {6, 1};
       },
       "up_proj.weight_scale_inv: shape is [6, 1], expected [3, 2]"},
      {"scales of integers", [](EditedCheckpoint& c) { c.at(up + "_scale_inv").dtype = "I32"; },
       "up_proj.weight_scale_inv: dtype is i32, expected f32 or bf16 or f16"},
      {"a scale that is infinite",
       [](EditedCheckpoint& c) { c.at(up + "_scale_inv").set(4, HUGE_VALF); },
       "up_proj.weight_scale_inv: element 4 is inf, expected a finite number"},
      {"other codes", [](EditedCheckpoint& c) { c.at(up).dtype = "F8_E5M2"; },
       "up_proj.weight: dtype is f8_e5m2, expected f8_e4m3"},
      {"a missing row", [](EditedCheckpoint& c) { drop_row(c.at(up)); },
       "up_proj.weight: shape is [295, 160], expected [296, 160]"},
      {"a module that should be converted",
       [](EditedCheckpoint& c) {
         c.config["quantization_config"]["modules_to_not_convert"] = {"lm_head", "layers.2.engram"};
       },
       "model.layers.0.mlp.down_proj.weight: dtype is bf16, expected f8_e4m3"},
      {"a module that should not be converted",
       [](EditedCheckpoint& c) {
         c.config["quantization_config"]["modules_to_not_convert"].push_back("layers.1.mlp");
       },
       "model.layers.1.mlp.gate_proj.weight: dtype is f8_e4m3, expected bf16 or f16 or f32"},
      {"scales of a module that is not converted",
       [](EditedCheckpoint& c) {
         c.tensors["model.layers.0.mlp.down_proj.weight_scale_inv"] = c.at(up + "_scale_inv");
       },
       "down_proj.weight_scale_inv: is a surplus tensor"},
      {"codes without the field of config.json",
       [](EditedCheckpoint& c) { c.config.erase("quantization_config"); },
       "q_proj.weight: dtype is f8_e4m3, expected bf16 or f16 or f32"},
  };
  for (const Case& c : cases) check_case(c, good, 512);
}

// These are found while the weights are read.
TEST_CASE(
    "weights that are not numbers end the loading where they are fp8", "[bad_checkpoint][fp8]") {
  const auto status_of = [](const EditedCheckpoint& checkpoint, bool quantize, int64_t tokens) {
    TempDirectory directory;
    checkpoint.write(directory.path());
    ModelConfig config = load_config(directory.path()).value();
    config.quantization.online = quantize;
    const auto device = memory::make_cpu_device(1);
    tests::RecordingOps ops;
    return load_weights(directory.path(), config, tokens, *device, ops, {}).status();
  };
  auto stored = EditedCheckpoint::read(tests::checkpoint_directory("tiny-fp8-weights"));
  CHECK(status_of(stored, false, 512).ok());
  stored.at("model.layers.1.mlp.up_proj.weight").set(3 * 160 + 7, uint8_t{0xff});
  CHECK_THAT(
      status_of(stored, false, 512).message(),
      Catch::Contains("model.layers.1.mlp.up_proj.weight: row 3, column 7 is NaN"));
  auto wide = EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram"));
  CHECK(status_of(wide, true, kTokens).ok());
  for (const float bad : {kNan, HUGE_VALF}) {
    wide.at("model.layers.2.self_attn.k_proj.weight").set(5, bf16(bad));
    CHECK_THAT(
        status_of(wide, true, kTokens).message(),
        Catch::Contains("model.layers.2.self_attn.k_proj.weight: rows 0 to 31 hold NaN"));
  }
}

TEST_CASE("broken files are refused", "[bad_checkpoint]") {
  const std::string source = tests::checkpoint_directory("tiny-engram");
  const std::string config = tests::file_bytes(source + "/config.json");
  const std::string weights = tests::file_bytes(source + "/model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, weights.data(), 8);

  struct FileCase {
    const char* name;
    std::string config;
    std::string weights;
    Code code;
    const char* words;
  };
  std::string huge_header = weights;
  huge_header[7] = '\x7f';
  std::string overlapping = weights;  // the second tensor begins where the first one does
  const size_t second = overlapping.find("data_offsets\":[", overlapping.find("data_offsets") + 1);
  const size_t digits = overlapping.find_first_of("0123456789", second);
  overlapping[digits] = overlapping[digits] == '1' ? '2' : '1';
  std::string twice = config;
  twice.replace(twice.find('{'), 1, "{\"hidden_size\": 64,");
  std::string wrong_type = config;
  wrong_type.replace(wrong_type.find("\"hidden_size\": 64"), 17, "\"hidden_size\": {}");
  const FileCase cases[] = {
      {"weights cut short", config, weights.substr(0, weights.size() - 1000),
       Code::kInvalidArgument, "(truncated?)"},
      {"weights cut within the header", config, weights.substr(0, header / 2),
       Code::kInvalidArgument, "header of "},
      {"huge header", config, huge_header, Code::kInvalidArgument, "header of "},
      {"ranges moved", config, overlapping, Code::kInvalidArgument, "model.safetensors: "},
      {"a byte appended", config, weights + "x", Code::kInvalidArgument, "belong to none"},
      {"empty weights", config, "", Code::kInvalidArgument, "expected a length of 8 bytes"},
      {"git-lfs pointer", config,
       "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
       Code::kInvalidArgument, "header of "},
      {"empty config", "", weights, Code::kInvalidArgument, "config.json: not valid JSON"},
      {"key twice in config", twice, weights, Code::kInvalidArgument,
       "config.json: duplicate key \"hidden_size\""},
      {"field of the wrong type", wrong_type, weights, Code::kInvalidArgument,
       "config.json: hidden_size is {}, expected a whole number"},
  };
  for (const FileCase& c : cases) {
    CAPTURE(c.name);
    TempDirectory directory;
    directory.write("config.json", c.config);
    directory.write("model.safetensors", c.weights);
    const Status status = load_status(directory.path(), kTokens);
    CHECK(status.code() == c.code);
    CHECK_THAT(status.message(), Catch::Contains(c.words));
  }
}

TEST_CASE("broken shards are refused", "[bad_checkpoint]") {
  TempDirectory directory;
  const std::string source = tests::checkpoint_directory("tiny-engram-bias");
  std::filesystem::copy(source, directory.path(), std::filesystem::copy_options::recursive);
  const int64_t tokens = tests::tokenizer_size(source);
  REQUIRE(load_status(directory.path(), tokens).ok());

  const std::string index = tests::file_bytes(source + "/model.safetensors.index.json");
  const std::string shard = "model-00002-of-00003.safetensors";
  const auto replaced = [&](const std::string& with) {
    std::string text = index;
    for (size_t at = text.find(shard); at != std::string::npos;
         at = text.find(shard, at + with.size())) {
      text.replace(at, shard.size(), with);
    }
    return text;
  };
  directory.write("model.safetensors.index.json", replaced("../" + shard));
  Status status = load_status(directory.path(), tokens);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("expected a file name of the same directory"));

  directory.write("model.safetensors.index.json", replaced("model-00001-of-00003.safetensors"));
  status = load_status(directory.path(), tokens);
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("is not in model-00001-of-00003.safetensors"));

  directory.write("model.safetensors.index.json", index);
  std::filesystem::remove(directory.file(shard));
  status = load_status(directory.path(), tokens);
  CHECK(status.code() == Code::kNotFound);
  CHECK_THAT(status.message(), Catch::Contains(shard + ": cannot be opened"));
}

TEST_CASE("hash constants alone are checked as well", "[bad_checkpoint]") {
  EditedCheckpoint edited = EditedCheckpoint::read(tests::checkpoint_directory("tiny-engram"));
  edited.at(layer1("moduli")).set<int64_t>(0, 7);
  TempDirectory directory;
  edited.write(directory.path());
  const Status status = load_hash_only(directory.path(), kTokens).status();
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("layer 1: moduli[0] is 7, expected "));
}

}  // namespace
}  // namespace engram::engine

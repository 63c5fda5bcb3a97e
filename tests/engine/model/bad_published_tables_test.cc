// Checkpoints of the published layouts with one thing wrong are refused, and the message names it.
#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/published_tables.h"
#include "tests/support/checkpoints.h"
#include "tests/support/edited_checkpoint.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using nlohmann::json;
using tests::EditedCheckpoint;

// A change of a checkpoint that must be refused, and words of the message.
struct Broken {
  const char* source;
  const char* name;
  std::function<void(EditedCheckpoint&)> change;
  std::vector<std::string> words;
  memory::Code code = memory::Code::kInvalidArgument;
};

std::string tensor_file_of(const std::string& directory) {
  const std::string adapter = directory + "/engram_adapters.safetensors";
  return std::filesystem::exists(adapter) ? "engram_adapters.safetensors" : "model.safetensors";
}

json& text(EditedCheckpoint& c) {
  return c.config.contains("text_config") ? c.config["text_config"] : c.config;
}

// Takes bytes or adds zeros so that the tensor has that many rows.
void resize_rows(tests::StoredTensor& t, int64_t rows) {
  const size_t row_bytes = t.bytes.size() / static_cast<size_t>(t.shape[0]);
  t.shape[0] = rows;
  t.bytes.resize(static_cast<size_t>(rows) * row_bytes);
}

void check_broken(const Broken& b) {
  CAPTURE(b.source);
  CAPTURE(b.name);
  const std::string source = tests::checkpoint_directory(b.source);
  const tests::TempDirectory directory;
  EditedCheckpoint edited = EditedCheckpoint::read(source);
  b.change(edited);
  const std::string tokenizer = source + "/tokenizer.json";
  if (std::filesystem::exists(tokenizer)) {
    std::filesystem::copy(tokenizer, directory.file("tokenizer.json"));
  }
  directory.write("config.json", edited.config.dump());
  directory.write(tensor_file_of(source), tests::safetensors_bytes(edited.tensors));
  const auto opened = open_published_tables(directory.path());
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.status().code() == b.code);
  for (const std::string& word : b.words) {
    CHECK_THAT(opened.status().message(), Catch::Contains(word));
  }
}

constexpr const char* kQwen = "model.language_model.layers.1.ple.ple_embedding.";

TEST_CASE("broken DeepSeek-V4.1 checkpoints are refused by name", "[published_tables]") {
  const std::string weight = "layers.1.engram.embed.weight";
  const std::string scale = "layers.1.engram.embed.scale";
  const auto without = [](const std::string& name) {
    return [name](EditedCheckpoint& c) { c.tensors.erase(name); };
  };
  const Broken cases[] = {
      {"layout-v41", "no weight", without(weight), {"tensor " + weight + " is missing"}},
      {"layout-v41", "no scale", without(scale), {"tensor " + scale + " is missing"}},
      {"layout-v41",
       "a row short",
       [&](EditedCheckpoint& c) { resize_rows(c.at(weight), c.at(weight).shape[0] - 1); },
       {weight, "rows, expected", "the sum of the moduli"}},
      {"layout-v41",
       "wrong dtype",
       [&](EditedCheckpoint& c) { c.at(weight).dtype = "I8"; },
       {weight + ": dtype is i8, expected bf16"}},
      {"layout-v41",
       "scales of other rows",
       [&](EditedCheckpoint& c) { resize_rows(c.at(scale), 7); },
       {scale + ": shape is [7, 2], expected ["}},
      {"layout-v41",
       "rows in config",
       [](EditedCheckpoint& c) { text(c)["engram_num_embeddings"][1] = 5; },
       {"engram_num_embeddings[1] is 5, expected", "layer 1"}},
      {"layout-v41",
       "rows of one layer",
       [](EditedCheckpoint& c) { text(c)["engram_num_embeddings"] = {5}; },
       {"text_config.engram_num_embeddings is [5], expected one count for each"}},
      {"layout-v41",
       "canonical ids",
       [](EditedCheckpoint& c) { text(c)["engram_compressed_vocab_size"] = 17; },
       {"engram_compressed_vocab_size is 17, expected", "tokenizer.json"}},
      {"layout-v41",
       "other n-grams",
       [](EditedCheckpoint& c) { text(c)["engram_max_ngram_size"] = 3; },
       {"engram_num_embeddings[0] is", "expected"}},
      {"layout-v41",
       "n-grams of 17",
       [](EditedCheckpoint& c) { text(c)["engram_max_ngram_size"] = 17; },
       {"text_config.engram_max_ngram_size is 17"}},
      {"layout-v41",
       "a layer twice",
       [](EditedCheckpoint& c) {
         text(c)["engram_layer_ids"] = {1, 1};
       },
       {"engram_layer_ids is [1,1], expected every layer once"}},
      {"layout-v41",
       "no pad",
       [](EditedCheckpoint& c) { text(c).erase("engram_pad_token_id"); },
       {"engram_pad_id is missing"}},
      {"layout-v41",
       "pad outside",
       [](EditedCheckpoint& c) { text(c)["engram_pad_token_id"] = 4000; },
       {"4000", "tokenizer.json's 600 ids"}},
      {"layout-v41",
       "too many columns",
       [](EditedCheckpoint& c) { text(c)["engram_n_heads"] = 257; },
       {"engram_n_heads is 257"}},
  };
  for (const Broken& b : cases) check_broken(b);
}

TEST_CASE("broken Qwen4-Exp checkpoints are refused by name", "[published_tables]") {
  const std::string p = kQwen;
  const auto shard = [&](int i) {
    return p + "ngram_embedding.shard_" + std::to_string(i) + ".weight";
  };
  const Broken cases[] = {
      {"layout-qwen",
       "a shard missing",
       [&](EditedCheckpoint& c) { c.tensors.erase(shard(3)); },
       {"tensor " + shard(3) + " is missing"}},
      {"layout-qwen",
       "the last shard missing",
       [&](EditedCheckpoint& c) {
         c.tensors.erase(shard(6));
         text(c)["split_ngram_parts"] = 6;
       },
       {"shard_*: 6 shards (split_ngram_parts) have", "rows, expected"}},
      {"layout-qwen",
       "a shard too long",
       [&](EditedCheckpoint& c) { resize_rows(c.at(shard(6)), 1000); },
       {shard(6) + ": has 1000 rows, expected 1 to"}},
      {"layout-qwen",
       "a shard too short",
       [&](EditedCheckpoint& c) { resize_rows(c.at(shard(0)), 1); },
       {"shard_*: 7 shards", "rows, expected"}},
      {"layout-qwen",
       "an empty shard",
       [&](EditedCheckpoint& c) { resize_rows(c.at(shard(0)), 0); },
       {shard(0) + ": has 0 rows, expected 1 to"}},
      {"layout-qwen",
       "another width",
       [&](EditedCheckpoint& c) {
         c.at(shard(2)).shape = {c.at(shard(2)).shape[0] * 2, 8};
       },
       {shard(2) + ": shape is [", "8], expected [", "16]"}},
      {"layout-qwen",
       "two dtypes",
       [&](EditedCheckpoint& c) { c.at(shard(2)).dtype = "F16"; },
       {shard(2) + ": dtype is f16, expected bf16"}},
      {"layout-qwen",
       "multipliers",
       [&](EditedCheckpoint& c) { c.at(p + "layer_multipliers").set<int64_t>(1, 12345); },
       {"layer 1: layer_multipliers[1] is 12345, expected", "by derivation"}},
      {"layout-qwen",
       "sizes",
       [&](EditedCheckpoint& c) { c.at(p + "ngram_heads_vocab_sizes").set<int64_t>(7, 1); },
       {"ngram_heads_vocab_sizes[7] is 1, expected"}},
      {"layout-qwen",
       "offsets",
       [&](EditedCheckpoint& c) { c.at(p + "ngram_heads_offsets").set<int64_t>(0, 1); },
       {"ngram_heads_offsets[0] is 1, expected 0"}},
      {"layout-qwen",
       "no offsets",
       [&](EditedCheckpoint& c) { c.tensors.erase(p + "ngram_heads_offsets"); },
       {"tensor " + p + "ngram_heads_offsets is missing"}},
      {"layout-qwen",
       "another seed",
       [](EditedCheckpoint& c) { text(c)["seed"] = 1; },
       {"layer_multipliers[0] is"}},
      {"layout-qwen",
       "another layer",
       [](EditedCheckpoint& c) { text(c)["ple_layer_ids"] = {3}; },
       {"tensor model.language_model.layers.2.ple.ple_embedding.layer_multipliers is missing"}},
      {"layout-qwen",
       "no layers",
       [](EditedCheckpoint& c) { text(c)["ple_layer_ids"] = json::array(); },
       {"text_config.ple_layer_ids is [], expected at least one layer"}},
      {"layout-qwen",
       "a layer twice",
       [](EditedCheckpoint& c) {
         text(c)["ple_layer_ids"] = {2, 2};
       },
       {"ple_layer_ids is [2,2], expected every layer once"}},
      {"layout-qwen",
       "odd width",
       [](EditedCheckpoint& c) { text(c)["ple_embed_dim"] = 129; },
       {"ple_embed_dim is 129, expected a multiple of the 8 columns"}},
      {"layout-qwen-fp8",
       "no scale",
       [&](EditedCheckpoint& c) { c.tensors.erase(p + "ngram_embedding.weight_scale"); },
       {"tensor " + p + "ngram_embedding.weight_scale is missing"}},
      {"layout-qwen-fp8",
       "scale zero",
       [&](EditedCheckpoint& c) { c.at(p + "ngram_embedding.weight_scale").set<uint16_t>(0, 0); },
       {"weight_scale: is 0.000000, expected a positive number"}},
      {"layout-qwen-fp8",
       "scale NaN",
       [&](EditedCheckpoint& c) {
         c.at(p + "ngram_embedding.weight_scale").set<uint16_t>(0, 0x7fc0);
       },
       {"weight_scale: is nan, expected a positive number"}},
      {"layout-qwen-fp8",
       "two scales",
       [&](EditedCheckpoint& c) {
         c.at(p + "ngram_embedding.weight_scale") = {"BF16", {2}, std::string(4, '\1')};
       },
       {"weight_scale: shape is [2], expected [1]"}},
  };
  for (const Broken& b : cases) check_broken(b);
}

TEST_CASE("broken LongCat-Flash checkpoints are refused by name", "[published_tables]") {
  const std::string third = "model.ngram_embeddings.embedders.3.weight";
  const Broken cases[] = {
      {"layout-longcat",
       "a table missing",
       [&](EditedCheckpoint& c) { c.tensors.erase(third); },
       {"tensor " + third + " is missing"}},
      {"layout-longcat",
       "a row short",
       [&](EditedCheckpoint& c) { resize_rows(c.at(third), c.at(third).shape[0] - 1); },
       {third + ": shape is [366, 8], expected [367, 8]"}},
      {"layout-longcat",
       "two dtypes",
       [&](EditedCheckpoint& c) { c.at(third).dtype = "F16"; },
       {third + ": dtype is f16, expected bf16"}},
      {"layout-longcat",
       "another ratio",
       [](EditedCheckpoint& c) { c.config["ngram_vocab_size_ratio"] = 4; },
       {"embedders.0.weight: shape is [361, 8], expected [481, 8]"}},
      {"layout-longcat",
       "a broken ratio",
       [](EditedCheckpoint& c) { c.config["ngram_vocab_size_ratio"] = 100.567; },
       {"ngram_vocab_size_ratio is 100.567"},
       memory::Code::kUnimplemented},
      {"layout-longcat",
       "odd width",
       [](EditedCheckpoint& c) { c.config["hidden_size"] = 50; },
       {"hidden_size is 50, expected a multiple of the 6 columns"}},
      {"layout-longcat",
       "no end of text",
       [](EditedCheckpoint& c) { c.config.erase("eos_token_id"); },
       {"eos_token_id is missing"}},
  };
  for (const Broken& b : cases) check_broken(b);
}

TEST_CASE("broken engram-peft adapters are refused by name", "[published_tables]") {
  const std::string weight = "1.multi_head_embedding.embedding.weight";
  const std::string offsets = "1.multi_head_embedding.offsets";
  const Broken cases[] = {
      {"layout-peft",
       "no table",
       [&](EditedCheckpoint& c) { c.tensors.erase(weight); },
       {"tensor " + weight + " is missing"}},
      {"layout-peft",
       "no offsets",
       [&](EditedCheckpoint& c) { c.tensors.erase(offsets); },
       {"tensor " + offsets + " is missing"}},
      {"layout-peft",
       "other offsets",
       [&](EditedCheckpoint& c) { c.at(offsets).set<int64_t>(2, 9); },
       {"layer 1: offsets[2] is 9, expected"}},
      {"layout-peft",
       "a row more",
       [&](EditedCheckpoint& c) { resize_rows(c.at(weight), c.at(weight).shape[0] + 1); },
       {weight, "rows, expected"}},
      {"layout-peft",
       "canonical ids",
       [](EditedCheckpoint& c) { c.config["compressed_vocab_size"] = 100; },
       {"compressed_vocab_size is 100, expected", "without added tokens"}},
      {"layout-peft",
       "another layer",
       [](EditedCheckpoint& c) {
         c.config["target_layers"] = {1, 2};
       },
       {"2.multi_head_embedding"}},
      {"layout-peft",
       "a layer twice",
       [](EditedCheckpoint& c) {
         c.config["target_layers"] = {1, 1};
       },
       {"target_layers is [1,1], expected every layer once"}},
      {"layout-peft",
       "orders the other way",
       [](EditedCheckpoint& c) {
         c.config["ngram_sizes"] = {3, 2};
       },
       {"ngram_sizes is [3,2], expected ascending orders"}},
      {"layout-peft",
       "sizes",
       [](EditedCheckpoint& c) { c.config["engram_vocab_size_per_ngram"] = {400}; },
       {"engram_vocab_size_per_ngram is [400], expected one size for each"}},
      {"layout-peft",
       "small sizes",
       [](EditedCheckpoint& c) {
         c.config["engram_vocab_size_per_ngram"] = {400, 2};
       },
       {"expected sizes of at least n_head_per_ngram"}},
      {"layout-peft",
       "odd width",
       [](EditedCheckpoint& c) { c.config["embedding_dim"] = 50; },
       {"embedding_dim is 50, expected a multiple of the 6 columns"}},
      {"layout-peft",
       "pad null",
       [](EditedCheckpoint& c) { c.config["pad_id"] = nullptr; },
       {"pad_id is missing"}},
      {"layout-peft",
       "another hash",
       [](EditedCheckpoint& c) { c.config["hash_backend"] = "rq"; },
       {"hash_backend is \"rq\"", "arithmetic"},
       memory::Code::kUnimplemented},
  };
  for (const Broken& b : cases) check_broken(b);
}

}  // namespace
}  // namespace engram::engine

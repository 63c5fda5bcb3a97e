// Qwen4-Exp checkpoints with changes, opened for conversion.
#include "engine/model/hash_families.h"
#include "tests/fuzz/layout_fuzzing.h"

namespace {

using engram::tests::CheckpointToFuzz;

CheckpointToFuzz make_base() {
  engram::engine::PleHash hash;
  hash.layers = {1};
  hash.vocab_size = 50;
  hash.heads = 2;
  hash.rows_per_head = 20;
  hash.rows_multiple = 16;
  hash.eos = 7;
  hash.row_width = 4;
  const auto g = derive_ple_geometries(hash)[0];
  CheckpointToFuzz base;
  const std::string p = "model.language_model.layers.1.ple.ple_embedding.";
  base.tensors[p + "layer_multipliers"] = engram::tests::i64_tensor(g.multipliers);
  base.tensors[p + "ngram_heads_vocab_sizes"] = engram::tests::i64_tensor(g.moduli);
  base.tensors[p + "ngram_heads_offsets"] = engram::tests::i64_tensor(g.offsets);
  base.tensors[p + "ngram_embedding.weight_scale"] = {"F32", {}, std::string("\0\0\200?", 4)};
  for (int i = 0; i < 4; ++i) {
    base.tensors[p + "ngram_embedding.shard_" + std::to_string(i) + ".weight"] =
        engram::tests::row_tensor("F8_E4M3", g.rows / 4, 4, 1);
  }
  base.config["text_config"] = {
      {"vocab_size", 50},
      {"eos_token_id", 7},
      {"ple_layer_ids", {2}},
      {"ple_embed_dim", 16},
      {"ngram_size", 3},
      {"heads_per_ngram", 2},
      {"ngram_vocab_size_base", 20},
      {"make_ngram_vocab_size_divisible_by", 16},
      {"split_ngram_parts", 4},
      {"seed", 1234}};
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CheckpointToFuzz base = engram::tests::checked_base(make_base());
  return engram::tests::fuzz_layout(base, data, size);
}

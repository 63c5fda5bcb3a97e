// DeepSeek-V4.1 checkpoints with changes, opened for conversion.
#include "engine/model/hash_families.h"
#include "tests/fuzz/layout_fuzzing.h"

namespace {

using engram::tests::CheckpointToFuzz;

CheckpointToFuzz make_base() {
  engram::engine::EngramConfig c;
  c.layer_ids = {1, 2};
  c.max_ngram_size = 4;
  c.vocab_size = {20, 20, 20};
  c.n_heads = 2;
  c.head_dim = 32;
  c.compressed_vocab_size = engram::tests::fuzz_canonical_ids().count;
  CheckpointToFuzz base;
  std::vector<int64_t> rows;
  for (const auto& g : derive_v41_geometries(c, 0)) {
    const std::string p = "layers." + std::to_string(g.layer) + ".engram.embed.";
    base.tensors[p + "weight"] = engram::tests::row_tensor("F8_E4M3", g.rows, 32, 1);
    base.tensors[p + "scale"] = engram::tests::row_tensor("F8_E8M0", g.rows, 1, 1);
    rows.push_back(g.rows);
  }
  base.config["text_config"] = {
      {"engram_layer_ids", {1, 2}}, {"engram_num_embeddings", rows},
      {"engram_vocab_size", 20},    {"engram_max_ngram_size", 4},
      {"engram_n_heads", 2},        {"engram_head_dim", 32},
      {"engram_pad_token_id", 2},   {"engram_compressed_vocab_size", c.compressed_vocab_size}};
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CheckpointToFuzz base = engram::tests::checked_base(make_base());
  return engram::tests::fuzz_layout(base, data, size);
}

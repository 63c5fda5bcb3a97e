// engram-peft adapters with changes, opened for conversion.
#include "engine/model/hash_families.h"
#include "tests/fuzz/layout_fuzzing.h"

namespace {

using engram::tests::CheckpointToFuzz;

CheckpointToFuzz make_base(bool compress) {
  engram::engine::PeftHash hash;
  hash.layers = {0, 2};
  hash.orders = {2, 4};
  hash.sizes = {40, 60};
  hash.heads = 2;
  hash.ids = compress ? engram::tests::fuzz_canonical_ids().count : 6;
  hash.row_width = 4;
  CheckpointToFuzz base;
  base.tensor_file = "engram_adapters.safetensors";
  base.config = {
      {"target_layers", {0, 2}},
      {"ngram_sizes", {2, 4}},
      {"engram_vocab_size_per_ngram", {40, 60}},
      {"n_head_per_ngram", 2},
      {"embedding_dim", 16},
      {"enable_tokenizer_compression", compress},
      {"compressed_vocab_size", hash.ids},
      {"pad_id", 2},
      {"seed", 0}};
  for (const auto& g : derive_peft_geometries(hash)) {
    const std::string p = std::to_string(g.layer) + ".multi_head_embedding.";
    base.tensors[p + "embedding.weight"] = engram::tests::row_tensor("F32", g.rows, 4, 4);
    base.tensors[p + "offsets"] = engram::tests::i64_tensor(g.offsets);
  }
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CheckpointToFuzz mapped = engram::tests::checked_base(make_base(true));
  static const CheckpointToFuzz raw = engram::tests::checked_base(make_base(false));
  // Raw ids mostly, as reading tokenizer.json takes most of the time.
  const bool compress = size > 0 && data[0] % 8 == 0;
  return engram::tests::fuzz_layout(compress ? mapped : raw, data, size);
}

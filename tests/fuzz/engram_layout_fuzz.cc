// EngramForCausalLM checkpoints with changes, opened for conversion.
#include "engine/model/hash_constants.h"
#include "engine/model/hash_families.h"
#include "tests/fuzz/layout_fuzzing.h"

namespace {

using engram::tests::CheckpointToFuzz;

CheckpointToFuzz make_base() {
  engram::engine::EngramConfig c;
  c.layer_ids = {1, 3};
  c.vocab_size = {20, 30};
  c.n_heads = 2;
  c.head_dim = 32;
  c.compressed_vocab_size = engram::tests::fuzz_canonical_ids().count;
  CheckpointToFuzz base;
  base.config = {
      {"num_hidden_layers", 4},     {"vocab_size", 8},
      {"engram_layer_ids", {1, 3}}, {"engram_vocab_size", {20, 30}},
      {"engram_n_heads", 2},        {"engram_head_dim", 32},
      {"engram_seed", 0},           {"engram_compressed_vocab_size", c.compressed_vocab_size}};
  // Stored, as reading tokenizer.json takes most of the time.
  const std::vector<int32_t> map = engram::tests::fuzz_canonical_ids().map;
  engram::tests::StoredTensor& stored = base.tensors[engram::engine::kTokenMapTensor];
  stored = {"I32", {static_cast<int64_t>(map.size())}, {}};
  stored.bytes.assign(reinterpret_cast<const char*>(map.data()), map.size() * sizeof(int32_t));
  for (const auto& g : derive_geometries(c, engram::memory::RowCodec::kF8Ue8m0, 0)) {
    const std::string p = engram::engine::engram_prefix(g.layer);
    base.tensors[p + "multipliers"] = engram::tests::i64_tensor(g.multipliers);
    base.tensors[p + "moduli"] = engram::tests::i64_tensor(g.moduli);
    base.tensors[p + "embedding.weight"] = engram::tests::row_tensor("F8_E4M3", g.rows, 32, 1);
    base.tensors[p + "embedding.scale"] = engram::tests::row_tensor("U8", g.rows, 1, 1);
  }
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CheckpointToFuzz base = engram::tests::checked_base(make_base());
  return engram::tests::fuzz_layout(base, data, size);
}

// LongCat-Flash checkpoints with changes, opened for conversion.
#include "tests/fuzz/layout_fuzzing.h"

namespace {

using engram::tests::CheckpointToFuzz;

CheckpointToFuzz make_base() {
  CheckpointToFuzz base;
  base.config = {{"vocab_size", 10},      {"hidden_size", 16},  {"eos_token_id", 2},
                 {"emb_neighbor_num", 3}, {"emb_split_num", 2}, {"ngram_vocab_size_ratio", 2}};
  for (int i = 0; i < 4; ++i) {
    base.tensors["model.ngram_embeddings.embedders." + std::to_string(i) + ".weight"] =
        engram::tests::row_tensor("BF16", 2 * 10 + 2 * i + 1, 4, 2);
  }
  return base;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const CheckpointToFuzz base = engram::tests::checked_base(make_base());
  return engram::tests::fuzz_layout(base, data, size);
}

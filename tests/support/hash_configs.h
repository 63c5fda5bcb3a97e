// The configurations behind the published hash constants and row ids.
#pragma once

#include "engine/model/hash_families.h"

namespace engram::tests {

inline engine::EngramConfig demo_config(int64_t canonical_ids) {
  engine::EngramConfig c;
  c.layer_ids = {1, 15};
  c.max_ngram_size = 3;
  c.vocab_size = {646400, 646400};
  c.n_heads = 8;
  c.head_dim = 64;
  c.compressed_vocab_size = canonical_ids;
  return c;
}

inline engine::EngramConfig v41_config() {
  engine::EngramConfig c;
  c.layer_ids = {1, 14};
  c.max_ngram_size = 4;
  c.vocab_size = {16000000, 16000000, 16000000};
  c.n_heads = 8;
  c.head_dim = 256;
  c.compressed_vocab_size = 99092;
  return c;
}

inline engine::PleHash qwen_hash() {
  engine::PleHash hash;
  hash.layers = {1};
  hash.vocab_size = 248320;
  hash.rows_per_head = 20000000;
  hash.rows_multiple = 128;
  hash.eos = 248044;
  hash.row_width = 160;
  return hash;
}

inline engine::LongcatHash longcat_hash() {
  engine::LongcatHash hash;
  hash.vocab_size = 131072;
  hash.ratio = 78;
  hash.eos = 2;
  hash.row_width = 256;
  return hash;
}

}  // namespace engram::tests

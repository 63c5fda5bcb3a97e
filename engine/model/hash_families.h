// The hash constants of the published families: multipliers, moduli, offsets and row counts as
// functions of a few numbers of the configuration. Pure functions; start-up.
//
// Arguments are taken as checked: sizes positive, at most kMaxNgramOrder ids, vocabularies of at
// most 2^22 ids. The codec is left to the caller, who has seen the stored table.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model/config.h"
#include "memory/table/geometry.h"

namespace engram::engine {

// [N] odd multipliers of one layer; canonical_ids * multiplier stays below 2^63.
std::vector<int64_t> derive_multipliers(
    int64_t canonical_ids, int max_ngram, int layer, uint64_t seed);

// moduli[i][c]: distinct primes over all layers, drawn in the order of layer_ids.
std::vector<std::vector<int64_t>> derive_moduli(const EngramConfig& config);

// One geometry per Engram layer, in the order of config.layer_ids. fill_id is the canonical id of
// the pad. Source: Engram paper (arXiv 2601.07372) and its published demo code.
std::vector<memory::TableGeometry> derive_geometries(
    const EngramConfig& config, memory::RowCodec codec, int64_t fill_id);

// DeepSeek-V4.1: the same constants; ids below zero (tokens of an image) end the look-back.
// Source: inference/engram.py of deepseek-ai/DeepSeek-V4.1-Flash.
std::vector<memory::TableGeometry> derive_v41_geometries(
    const EngramConfig& config, int64_t fill_id);

// Qwen4-Exp ("Qwen3.8-Flash-Next") n-gram embeddings: raw ids, texts end at eos.
// Source: transformers, models/qwen4_exp.
struct PleHash {
  std::vector<int> layers;    // block indices, 0-based
  int64_t vocab_size = 0;     // V, raw ids
  int max_ngram = 3;          // N
  int heads = 8;              // per order
  int64_t rows_per_head = 0;  // the moduli are the primes from here on
  int64_t rows_multiple = 1;  // of the padded row count
  uint64_t seed = 1234;
  int64_t eos = 0;
  int64_t row_width = 0;
};
std::vector<memory::TableGeometry> derive_ple_geometries(const PleHash& hash);

// LongCat-Flash n-gram input embeddings: 12 tables of the checkpoint are the columns of one table.
// Source: modeling_longcat_ngram.py of meituan-longcat/LongCat-Flash-Lite.
struct LongcatHash {
  int64_t vocab_size = 0;  // V, of the text
  int64_t ratio = 0;       // column i has ratio * V + 2i + 1 rows
  int max_ngram = 4;
  int heads = 4;
  int64_t eos = 0;
  int64_t row_width = 0;
};
memory::TableGeometry derive_longcat_geometry(const LongcatHash& hash);

// engram-peft adapters: the paper's constants with S / heads rows per head, primes drawn over the
// layers in ascending order, and a list of orders that may have gaps.
// Source: src/engram_peft/hashing.py of QingGo/engram-peft.
struct PeftHash {
  std::vector<int> layers;     // in any order
  std::vector<int> orders;     // ascending
  std::vector<int64_t> sizes;  // S, one per order
  int heads = 8;
  int64_t ids = 0;  // C: canonical ids, or the tokenizer's size without a map
  uint64_t seed = 0;
  int64_t fill_id = 0;
  int64_t row_width = 0;
};
std::vector<memory::TableGeometry> derive_peft_geometries(const PeftHash& hash);

}  // namespace engram::engine

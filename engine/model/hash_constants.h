// The part of a checkpoint that decides which rows a token reads: multipliers, moduli, table
// shapes and token map. All of it is small, and is checked before any large memory is taken.
// Start-up, one thread.
#pragma once

#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/ngram.h"
#include "memory/base/status.h"
#include "memory/io/safetensors.h"
#include "memory/table/geometry.h"

namespace engram::engine {

constexpr const char* kTokenMapTensor = "model.engram_token_map";
std::string engram_prefix(int layer);  // "model.layers.L.engram."

// One geometry per Engram layer, derived from the configuration; its codec is that of the stored
// table, fill_id the canonical id of the pad. INVALID_ARGUMENT names the layer and the first stored
// constant that differs from the derivation, or what is wrong with the table's shape, dtype or
// scales.
memory::Result<std::vector<memory::TableGeometry>> check_hash_constants(
    const memory::TensorFiles& files, const EngramConfig& config, int64_t fill_id);

// Reads model.engram_token_map; it must have one entry per id of the tokenizer, and canonical ids
// must first appear in the order 0 .. C-1.
memory::Result<TokenMap> load_token_map(
    const memory::TensorFiles& files, const EngramConfig& config, int64_t tokenizer_size);

// What hashing needs, without weights and tables. FAILED_PRECONDITION without Engram layers.
struct HashOnly {
  ModelConfig config;
  std::vector<memory::TableGeometry> geometries;  // in the order of config.engram.layer_ids
  TokenMap token_map;
};
memory::Result<HashOnly> load_hash_only(const std::string& directory, int64_t tokenizer_size);

}  // namespace engram::engine

// The n-gram tables of a published checkpoint: what each one looks like, which ids it is hashed
// with, and where its rows lie. Everything small is read and checked when opened; rows are read by
// range, so that a table of any size passes through a bounded buffer. Start-up and offline tools.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/ngram.h"
#include "memory/base/status.h"
#include "memory/io/safetensors.h"
#include "memory/table/geometry.h"

namespace engram::engine {

// Rows [begin, end) of a table, one after another from the first byte of a tensor.
struct RowPiece {
  int64_t begin = 0;
  int64_t end = 0;
  memory::TensorInfo tensor;
};

struct PublishedTable {
  memory::TableGeometry geometry;  // codec and tensor_scale are those of the stored rows
  std::vector<RowPiece> values;    // ascending, without holes, geometry.rows in all
  std::vector<RowPiece> scales;    // the same; empty for codecs without scales
};

struct PublishedTables {
  std::string layout;  // "DeepSeek-V4.1"
  memory::TensorFiles files;
  std::vector<PublishedTable> tables;  // by layer, ascending
  TokenMap token_map;                  // from raw ids to those that are hashed
};

// Recognises the layout of the directory: an EngramForCausalLM checkpoint (also Llama and Qwen3
// with Engram fields), DeepSeek-V4.1, Qwen4-Exp, LongCat-Flash, an engram-peft adapter. Hash
// constants in the checkpoint are compared with their derivation; a token map that is not stored is
// derived from tokenizer.json. INVALID_ARGUMENT names file, tensor or field, what was expected and
// what was found; UNIMPLEMENTED a variant of a layout that is not known; NOT_FOUND missing files.
memory::Result<PublishedTables> open_published_tables(const std::string& directory);

// Values, or scales, of the rows [begin, end), as stored: (end - begin) times the geometry's
// value_bytes() or scale_bytes(). Any number of threads. DATA_LOSS when a file became shorter.
memory::Status read_values(
    const PublishedTables& published,
    const PublishedTable& table,
    int64_t begin,
    int64_t end,
    void* to);
memory::Status read_scales(
    const PublishedTables& published,
    const PublishedTable& table,
    int64_t begin,
    int64_t end,
    void* to);

}  // namespace engram::engine

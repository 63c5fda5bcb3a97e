// A model's weights on a device, fused the way the forward pass reads them, and where its n-gram
// tables come from. Loaded once at start-up; checkpoint tensors are named by rules (weights.cc), so
// that a family adds rows, not classes. Everything a checkpoint can get wrong is found here or in
// config.h.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/fp8_weights.h"
#include "engine/model/ngram.h"
#include "engine/ops/ops.h"
#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/table_set.h"

namespace engram::engine {

// All norm weights, biases and convolution taps are widened to f32. An absent one is an empty View.
struct EngramWeights {
  Matrix key_value;     // [(G+1)*D, E]: G key projections, branch-major, then the value projection
  View key_value_bias;  // [1, (G+1)*D]
  View key_norm;        // [G, D]
  View query_norm;      // [G, D]
  View conv_norm;       // [G, D]; empty without convolution
  View conv;            // [G*D, w]; empty without convolution
};

struct LayerWeights {
  View input_norm;   // [1, D]
  Matrix qkv;        // [(Nq + 2 Nk) * Dh, D]: q, k, v
  View qkv_bias;     // [1, (Nq + 2 Nk) * Dh]
  View q_norm;       // [1, Dh]
  View k_norm;       // [1, Dh]
  Matrix output;     // [D, Nq * Dh]
  View output_bias;  // [1, D]
  View post_norm;    // [1, D]
  Matrix gate_up;    // [2I, D]: gate, up
  Matrix down;       // [D, I]
  int engram = -1;   // index into Weights::engram and ::tables, or -1
};

struct Weights {
  Matrix embedding;  // [V, D]
  Matrix lm_head;    // [V, D]; the embedding itself when tied
  View final_norm;   // [1, D]
  std::vector<LayerWeights> layers;
  std::vector<EngramWeights> engram;  // in the order of engram.layer_ids
  // The checkpoint's tables, one per Engram layer, same order. Shared with the sets that open them.
  std::vector<std::shared_ptr<const memory::TableSource>> tables;
  TokenMap token_map;
  int64_t weight_bytes = 0;  // tables not counted
  // What quantising lost, by the tensor's name within its layer: "mlp.up_proj.weight".
  std::map<std::string, Fp8Error> fp8_errors;
  std::vector<memory::Buffer> storage;  // what the views above point into
};

struct LoadProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
};

// What the tables of these weights must be, for TableSet::open(): their geometries, the
// checkpoint's own tables as sources, and the token map they were made with.
memory::TableRequest table_request(const Weights& weights);
// SHA-256 of the canonical ids, little-endian int32: what table files carry.
std::array<uint8_t, 32> token_map_sha256(const TokenMap& map);

// Reads DIRECTORY/*.safetensors but for the rows of the tables, which are opened only.
// `tokenizer_size` is len(tokenizer), for the token map's length. INVALID_ARGUMENT names file,
// tensor or field, expected and found; DATA_LOSS a short read; RESOURCE_EXHAUSTED what could not be
// allocated. Everything is checked before large memory is taken, but for the values of matrices and
// tables, which are too many: a NaN there is found by whoever samples; in a matrix that is or
// becomes f8_e4m3 it ends the loading. `progress` may be empty; it
// is called by one thread at a time, not always the same.
memory::Result<Weights> load_weights(
    const std::string& directory,
    const ModelConfig& config,
    int64_t tokenizer_size,
    memory::Device& device,
    Ops& ops,
    const std::function<void(const LoadProgress&)>& progress);

// Weights and table sources that are cheap hashes of tensor, row and column: finite, of a scale
// that keeps activations in range, the same in every run. Table rows of bf16 have unit variance,
// those of other codecs are the rows of synthetic_rows.h. INVALID_ARGUMENT when rows as wide as the
// model's cannot have that codec.
memory::Result<Weights> make_dummy_weights(
    const ModelConfig& config,
    memory::Device& device,
    Ops& ops,
    memory::RowCodec codec = memory::RowCodec::kBf16);
// Their tables alone, as table_request() of the weights describes them; with its error.
memory::Result<memory::TableRequest> dummy_table_request(
    const ModelConfig& config, memory::RowCodec codec = memory::RowCodec::kBf16);
// How one of their rows is stored, and nothing else of a geometry: width, codec, and its scales (of
// 32 integers each, or of 16 where rows are no multiple of 32 wide). The same error.
memory::Result<memory::TableGeometry> dummy_row_shape(int64_t row_width, memory::RowCodec codec);

}  // namespace engram::engine

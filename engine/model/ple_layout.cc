// Qwen4-Exp ("Qwen3.8-Flash-Next"): one table per n-gram layer in shards by rows, bf16 or fp8 with
// one scale for the whole table; hash constants are stored.
#include <bit>
#include <cmath>
#include <set>

#include "engine/model/hash_families.h"
#include "engine/model/stored_tensors.h"
#include "engine/model/table_layout.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::Status;
using memory::TableGeometry;
using memory::TensorFiles;
using memory::TensorInfo;

bool matches(const PublishedConfig& config) {
  return config.text().contains("ple_layer_ids");
}

void read_fields(JsonFields* fields, PleHash* hash, int64_t* shards) {
  const char* const width = "ple_embed_dim";
  const char* const base = "ngram_vocab_size_base";
  std::vector<int> one_based;
  int64_t embed_dim = 0;
  *shards = 512;
  fields->integers("ple_layer_ids", Need::kRequired, false, 1, kMaxPublishedLayer, &one_based);
  fields->integer(width, Need::kRequired, 1, int64_t{1} << 24, &embed_dim);
  fields->integer("vocab_size", Need::kRequired, 1, kMaxPublishedVocab, &hash->vocab_size);
  fields->integer("ngram_size", Need::kRequired, 2, memory::kMaxNgramOrder, &hash->max_ngram);
  fields->integer("heads_per_ngram", Need::kRequired, 1, kMaxPublishedHeads, &hash->heads);
  fields->integer(base, Need::kRequired, 1, kMaxPublishedRowsPerHead, &hash->rows_per_head);
  fields->integer(
      "make_ngram_vocab_size_divisible_by", Need::kOptional, 1, 1 << 20, &hash->rows_multiple);
  fields->integer("split_ngram_parts", Need::kOptional, 1, 1 << 16, shards);
  fields->integer("seed", Need::kOptional, 0, int64_t{1} << 62, &hash->seed);
  fields->integer("eos_token_id", Need::kRequired, 0, kMaxPublishedVocab - 1, &hash->eos);
  if (!fields->status().ok()) return;
  for (const int layer : one_based) hash->layers.push_back(layer - 1);
  const int64_t columns = (hash->max_ngram - 1) * int64_t{hash->heads};
  if (hash->layers.empty()) fields->reject("ple_layer_ids", "at least one layer");
  if (std::set<int>(one_based.begin(), one_based.end()).size() != one_based.size()) {
    fields->reject("ple_layer_ids", "every layer once");
  }
  if (columns * static_cast<int64_t>(hash->layers.size()) > kMaxPublishedColumns) {
    fields->reject("heads_per_ngram", "at most 16384 columns in all layers");
  }
  if (embed_dim % columns != 0) {
    fields->reject(width, "a multiple of the " + std::to_string(columns) + " columns");
  }
  hash->row_width = embed_dim / columns;
}

// The scale of all rows, one number in a tensor without or with one dimension.
Result<float> read_scale(const TensorFiles& files, const std::string& name) {
  const TensorInfo* stored = files.find(name);
  const bool scalar = stored != nullptr && stored->shape.empty();
  const Result<const TensorInfo*> tensor = find_tensor(
      files, name, {DType::kF32, DType::kBf16, DType::kF16},
      scalar ? std::vector<int64_t>{} : std::vector<int64_t>{1});
  if (!tensor.ok()) return tensor.status();
  uint32_t bits = 0;
  ENGRAM_RETURN_IF_ERROR(files.read(*tensor.value(), 0, tensor.value()->bytes, &bits));
  float scale = std::bit_cast<float>(bits);
  if (tensor.value()->dtype == DType::kBf16) scale = std::bit_cast<float>(bits << 16);
  if (tensor.value()->dtype == DType::kF16) {
    scale = memory::half_to_float({static_cast<uint16_t>(bits)});
  }
  if (!std::isfinite(scale) || scale <= 0) {
    return memory::invalid_argument(
        files.path(*tensor.value()) + ": " + name + ": is " + std::to_string(scale) +
        ", expected a positive number");
  }
  return scale;
}

Status add_shards(
    const TensorFiles& files, const std::string& prefix, int64_t shards, PublishedTable* table) {
  TableGeometry& g = table->geometry;
  int64_t row = 0;
  for (int64_t i = 0; i < shards && row < g.rows; ++i) {
    const std::string name = prefix + "shard_" + std::to_string(i) + ".weight";
    const TensorInfo* stored = files.find(name);
    const int64_t rows = stored != nullptr && !stored->shape.empty() ? stored->shape[0] : 0;
    // The dtype of the first shard decides for all.
    const Result<const TensorInfo*> tensor =
        i == 0
            ? find_tensor(files, name, {DType::kBf16, DType::kF8E4m3}, {rows, g.row_width})
            : find_tensor(files, name, {table->values.front().tensor.dtype}, {rows, g.row_width});
    if (!tensor.ok()) return tensor.status();
    if (rows == 0 || rows > g.rows - row) {
      return memory::invalid_argument(
          files.path(*tensor.value()) + ": " + name + ": has " + std::to_string(rows) +
          " rows, expected 1 to " + std::to_string(g.rows - row) + ", what " +
          std::to_string(g.rows) + " rows leave after the shards before it");
    }
    table->values.push_back({row, row + rows, *tensor.value()});
    row += rows;
  }
  if (row < g.rows) {
    return memory::invalid_argument(
        files.directory() + ": " + prefix + "shard_*: " + std::to_string(shards) +
        " shards (split_ngram_parts) have " + std::to_string(row) + " rows, expected " +
        std::to_string(g.rows));
  }
  if (table->values.front().tensor.dtype != DType::kF8E4m3) return {};
  const Result<float> scale = read_scale(files, prefix + "weight_scale");
  if (!scale.ok()) return scale.status();
  g.codec = memory::RowCodec::kF8Tensor;
  g.tensor_scale = scale.value();
  return {};
}

Result<PublishedTables> read(const PublishedConfig& config) {
  PleHash hash;
  int64_t shards = 0;
  JsonFields fields = config.text_fields();
  read_fields(&fields, &hash, &shards);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  Result<TensorFiles> opened = TensorFiles::open(config.directory);
  if (!opened.ok()) return opened.status();
  const TensorFiles& files = opened.value();
  PublishedTables published;
  published.token_map.pass_through = true;
  for (TableGeometry& g : derive_ple_geometries(hash)) {
    const std::string layer = std::to_string(g.layer);
    const std::string prefix = "model.language_model.layers." + layer + ".ple.ple_embedding.";
    const std::string where = "layer " + layer + ": ";
    ENGRAM_RETURN_IF_ERROR(
        compare_stored(files, prefix + "layer_multipliers", where, g.multipliers));
    ENGRAM_RETURN_IF_ERROR(
        compare_stored(files, prefix + "ngram_heads_vocab_sizes", where, g.moduli));
    ENGRAM_RETURN_IF_ERROR(compare_stored(files, prefix + "ngram_heads_offsets", where, g.offsets));
    PublishedTable& table = published.tables.emplace_back();
    table.geometry = std::move(g);
    ENGRAM_RETURN_IF_ERROR(add_shards(files, prefix + "ngram_embedding.", shards, &table));
  }
  published.files = std::move(opened).value();
  return published;
}

}  // namespace

const TableLayout kPleLayout = {"Qwen4-Exp", matches, read};

}  // namespace engram::engine

// DeepSeek-V4.1: one table per Engram layer, fp8 rows with ue8m0 scales; neither hash constants nor
// token map are stored. The fields are in text_config, or at the top of the reference's own
// config.json.
#include <set>

#include "engine/model/hash_families.h"
#include "engine/model/table_layout.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using memory::TensorFiles;

constexpr const char* kRowCounts = "engram_num_embeddings";
constexpr const char* kCanonicalIds = "engram_compressed_vocab_size";

bool matches(const PublishedConfig& config) {
  return config.text().contains(kRowCounts);
}

void read_fields(JsonFields* fields, EngramConfig* e, std::vector<int64_t>* rows) {
  int64_t per_head = 0;
  fields->integers(
      "engram_layer_ids", Need::kRequired, false, 0, kMaxPublishedLayer, &e->layer_ids);
  fields->integers(kRowCounts, Need::kRequired, false, 1, INT64_MAX, rows);
  fields->integer(
      "engram_max_ngram_size", Need::kRequired, 2, memory::kMaxNgramOrder, &e->max_ngram_size);
  fields->integer("engram_vocab_size", Need::kRequired, 1, kMaxPublishedRowsPerHead, &per_head);
  fields->integer("engram_n_heads", Need::kRequired, 1, kMaxPublishedHeads, &e->n_heads);
  fields->integer("engram_head_dim", Need::kRequired, 1, kMaxPublishedWidth, &e->head_dim);
  fields->integer(kCanonicalIds, Need::kRequired, 1, kMaxPublishedVocab, &e->compressed_vocab_size);
  fields->integer("engram_seed", Need::kOptional, 0, int64_t{1} << 62, &e->seed);
  // Two spellings of one field: of the released config.json and of the reference's.
  const bool released = fields->has("engram_pad_token_id");
  fields->integer(
      released ? "engram_pad_token_id" : "engram_pad_id", Need::kRequired, 0,
      kMaxPublishedVocab - 1, &e->pad_token_id);
  if (!fields->status().ok()) return;
  e->vocab_size.assign(static_cast<size_t>(e->max_ngram_size - 1), per_head);
  if (e->layer_ids.empty() || rows->size() != e->layer_ids.size()) {
    fields->reject(kRowCounts, "one count for each of engram_layer_ids, of which there is one");
  }
  if (std::set<int>(e->layer_ids.begin(), e->layer_ids.end()).size() != e->layer_ids.size()) {
    fields->reject("engram_layer_ids", "every layer once");
  }
  if (e->columns() * static_cast<int64_t>(e->layer_ids.size()) > kMaxPublishedColumns) {
    fields->reject("engram_n_heads", "at most 16384 columns in all layers");
  }
}

Result<PublishedTables> read(const PublishedConfig& config) {
  EngramConfig engram;
  std::vector<int64_t> rows;
  JsonFields fields = config.text_fields();
  read_fields(&fields, &engram, &rows);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  Result<TokenMap> map =
      derive_token_map(config, kCanonicalIds, engram.compressed_vocab_size, engram.pad_token_id);
  if (!map.ok()) return map.status();
  Result<TensorFiles> files = TensorFiles::open(config.directory);
  if (!files.ok()) return files.status();
  PublishedTables published;
  published.token_map = std::move(map).value();
  const auto geometries = derive_v41_geometries(engram, published.token_map.pad);
  for (size_t i = 0; i < geometries.size(); ++i) {
    const memory::TableGeometry& g = geometries[i];
    if (rows[i] != g.rows) {
      return memory::invalid_argument(
          config.file + kRowCounts + "[" + std::to_string(i) + "] is " + std::to_string(rows[i]) +
          ", expected " + std::to_string(g.rows) + ", the sum of the moduli of layer " +
          std::to_string(g.layer));
    }
    const std::string table = "layers." + std::to_string(g.layer) + ".engram.embed.";
    ENGRAM_RETURN_IF_ERROR(
        add_whole_table(files.value(), table + "weight", table + "scale", g, &published));
  }
  published.files = std::move(files).value();
  return published;
}

}  // namespace

const TableLayout kV41Layout = {"DeepSeek-V4.1", matches, read};

}  // namespace engram::engine

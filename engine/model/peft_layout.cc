// engram-peft adapters: config.json of model_type "engram" beside engram_adapters.safetensors, one
// table per target layer. Neither the token map nor the constants are stored, apart from offsets.
#include <algorithm>
#include <set>

#include "engine/model/canonical_ids.h"
#include "engine/model/hash_families.h"
#include "engine/model/stored_tensors.h"
#include "engine/model/table_layout.h"
#include "engine/model/tokenizer.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using memory::TensorFiles;

constexpr const char* kFile = "engram_adapters.safetensors";
constexpr const char* kIds = "compressed_vocab_size";

bool matches(const PublishedConfig& config) {
  return config.root.contains("engram_vocab_size_per_ngram");
}

struct PeftConfig {
  PeftHash hash;
  bool compress = true;
  int64_t pad = 0;
};

void check_sizes(JsonFields* fields, PeftHash* hash, int64_t width) {
  const char* const sizes = "engram_vocab_size_per_ngram";
  const int64_t orders = static_cast<int64_t>(hash->orders.size());
  if (hash->layers.empty()) fields->reject("target_layers", "at least one layer");
  if (std::set<int>(hash->layers.begin(), hash->layers.end()).size() != hash->layers.size()) {
    fields->reject("target_layers", "every layer once");
  }
  if (orders == 0 || !std::is_sorted(hash->orders.begin(), hash->orders.end(), [](int a, int b) {
        return a <= b;
      })) {
    fields->reject("ngram_sizes", "ascending orders");
  }
  if (!fields->status().ok()) return;
  if (static_cast<int64_t>(hash->sizes.size()) != orders) {
    fields->reject(sizes, "one size for each of ngram_sizes");
  }
  for (const int64_t size : hash->sizes) {
    if (size < hash->heads) fields->reject(sizes, "sizes of at least n_head_per_ngram");
  }
  const int64_t columns = orders * hash->heads;
  if (columns * static_cast<int64_t>(hash->layers.size()) > kMaxPublishedColumns) {
    fields->reject("n_head_per_ngram", "at most 16384 columns in all layers");
  }
  if (width % columns != 0) {
    fields->reject("embedding_dim", "a multiple of the " + std::to_string(columns) + " columns");
  }
  hash->row_width = width / columns;
}

Result<PeftConfig> read_fields(const PublishedConfig& config) {
  PeftConfig c;
  PeftHash& hash = c.hash;
  JsonFields fields(config.root, config.file);
  int64_t width = 0;
  std::string backend = "arithmetic";
  fields.text("hash_backend", Need::kOptional, &backend);
  if (backend != "arithmetic") fields.refuse("hash_backend", "arithmetic");
  fields.integers("target_layers", Need::kRequired, false, 0, kMaxPublishedLayer, &hash.layers);
  fields.integers("ngram_sizes", Need::kRequired, false, 1, memory::kMaxNgramOrder, &hash.orders);
  fields.integers(
      "engram_vocab_size_per_ngram", Need::kRequired, false, 1, kMaxPublishedRowsPerHead,
      &hash.sizes);
  fields.integer("n_head_per_ngram", Need::kRequired, 1, kMaxPublishedHeads, &hash.heads);
  fields.integer("embedding_dim", Need::kRequired, 1, int64_t{1} << 24, &width);
  fields.boolean("enable_tokenizer_compression", &c.compress);
  fields.integer(kIds, Need::kRequired, 1, kMaxPublishedVocab, &hash.ids);
  fields.integer("pad_id", Need::kRequired, 0, kMaxPublishedVocab - 1, &c.pad);
  fields.integer("seed", Need::kOptional, 0, int64_t{1} << 62, &hash.seed);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  check_sizes(&fields, &hash, width);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  return c;
}

// Ids of the tokenizer's vocabulary, without the tokens added after it.
size_t base_ids(const Tokenizer& tokenizer) {
  int32_t end = static_cast<int32_t>(tokenizer.size());
  while (end > 0 && tokenizer.is_added(end - 1)) --end;
  return static_cast<size_t>(end);
}

// Releases differ in whether tokens added to the vocabulary are mapped; C says which it was. Ids
// beyond the map stay as they are.
Result<TokenMap> read_map(const PublishedConfig& config, const PeftConfig& c) {
  TokenMap map;
  map.pass_through = true;
  map.pad = static_cast<int32_t>(c.pad);
  if (!c.compress) return map;
  const Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(config.directory);
  if (tokenizer.status().code() == memory::Code::kNotFound) {
    return memory::not_found(
        tokenizer.status().message() +
        "; the adapter's token map is derived from it: copy it from the base model");
  }
  if (!tokenizer.ok()) return tokenizer.status();
  CanonicalIds ids = derive_canonical_ids(*tokenizer.value());
  map.canonical = std::move(ids.map);
  int64_t without_added = 0;
  if (ids.count != c.hash.ids) {
    map.canonical.resize(base_ids(*tokenizer.value()));
    for (const int32_t id : map.canonical) without_added = std::max<int64_t>(without_added, id + 1);
    if (without_added != c.hash.ids) {
      return memory::invalid_argument(
          config.file + kIds + " is " + std::to_string(c.hash.ids) + ", expected " +
          std::to_string(ids.count) + " or, without added tokens, " +
          std::to_string(without_added) + ", the canonical ids of tokenizer.json with Unicode " +
          unicode_version());
    }
  }
  map.pad = map.of(static_cast<int32_t>(c.pad));
  return map;
}

Result<PublishedTables> read(const PublishedConfig& config) {
  Result<PeftConfig> fields = read_fields(config);
  if (!fields.ok()) return fields.status();
  Result<TokenMap> map = read_map(config, fields.value());
  if (!map.ok()) return map.status();
  Result<TensorFiles> files = TensorFiles::open_file(config.directory, kFile);
  if (!files.ok()) return files.status();
  PublishedTables published;
  published.token_map = std::move(map).value();
  PeftHash& hash = fields.value().hash;
  hash.fill_id = published.token_map.pad;
  for (const memory::TableGeometry& g : derive_peft_geometries(hash)) {
    const std::string layer = std::to_string(g.layer);
    const std::string prefix = layer + ".multi_head_embedding.";
    ENGRAM_RETURN_IF_ERROR(
        compare_stored(files.value(), prefix + "offsets", "layer " + layer + ": ", g.offsets));
    ENGRAM_RETURN_IF_ERROR(add_whole_table(
        files.value(), prefix + "embedding.weight", prefix + "embedding.scale", g, &published));
  }
  published.files = std::move(files).value();
  return published;
}

}  // namespace

const TableLayout kPeftLayout = {"engram-peft", matches, read};

}  // namespace engram::engine

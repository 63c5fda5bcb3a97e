// LongCat-Flash n-gram input embeddings: one tensor per column, which together are one table.
#include "engine/model/hash_families.h"
#include "engine/model/stored_tensors.h"
#include "engine/model/table_layout.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::TensorFiles;
using memory::TensorInfo;

bool matches(const PublishedConfig& config) {
  return config.text().contains("emb_neighbor_num");
}

void read_fields(JsonFields* fields, LongcatHash* hash) {
  const char* const ratio = "ngram_vocab_size_ratio";
  int64_t hidden = 0;
  fields->integer("emb_neighbor_num", Need::kRequired, 2, memory::kMaxNgramOrder, &hash->max_ngram);
  fields->integer("emb_split_num", Need::kRequired, 1, kMaxPublishedHeads, &hash->heads);
  fields->integer("vocab_size", Need::kRequired, 1, kMaxPublishedVocab, &hash->vocab_size);
  fields->integer("hidden_size", Need::kRequired, 1, 1 << 20, &hidden);
  fields->integer("eos_token_id", Need::kRequired, 0, kMaxPublishedVocab - 1, &hash->eos);
  if (fields->has(ratio) && fields->at(ratio).is_number_float()) {
    fields->refuse(ratio, "whole numbers");
  }
  fields->integer(ratio, Need::kRequired, 1, 1 << 12, &hash->ratio);
  if (!fields->status().ok()) return;
  const int64_t columns = (hash->max_ngram - 1) * int64_t{hash->heads};
  if (hidden % columns != 0) {
    fields->reject("hidden_size", "a multiple of the " + std::to_string(columns) + " columns");
  }
  hash->row_width = hidden / columns;
}

Result<PublishedTables> read(const PublishedConfig& config) {
  LongcatHash hash;
  JsonFields fields = config.text_fields();
  read_fields(&fields, &hash);
  ENGRAM_RETURN_IF_ERROR(fields.status());
  Result<TensorFiles> files = TensorFiles::open(config.directory);
  if (!files.ok()) return files.status();
  PublishedTables published;
  published.token_map.pass_through = true;
  PublishedTable& table = published.tables.emplace_back();
  table.geometry = derive_longcat_geometry(hash);
  const memory::TableGeometry& g = table.geometry;
  DType dtype = DType::kBf16;
  for (size_t c = 0; c < g.moduli.size(); ++c) {
    const std::string name = "model.ngram_embeddings.embedders." + std::to_string(c) + ".weight";
    const std::vector<int64_t> shape = {g.moduli[c], g.row_width};
    // The dtype of the first column decides for all.
    const Result<const TensorInfo*> tensor =
        c == 0 ? find_tensor(files.value(), name, {DType::kBf16, DType::kF16, DType::kF32}, shape)
               : find_tensor(files.value(), name, {dtype}, shape);
    if (!tensor.ok()) return tensor.status();
    dtype = tensor.value()->dtype;
    table.values.push_back({g.offsets[c], g.offsets[c] + g.moduli[c], *tensor.value()});
  }
  table.geometry.codec = codec_of(dtype);
  published.files = std::move(files).value();
  return published;
}

}  // namespace

const TableLayout kLongcatLayout = {"LongCat-Flash", matches, read};

}  // namespace engram::engine

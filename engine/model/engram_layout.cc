// EngramForCausalLM checkpoints, and Llama and Qwen3 ones with Engram fields.
#include "engine/model/config.h"
#include "engine/model/hash_constants.h"
#include "engine/model/table_layout.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::TensorFiles;
using memory::TensorInfo;

// A stored map is taken at its word; its length is that of the tokenizer it was made for.
Result<TokenMap> read_map(
    const PublishedConfig& config, const TensorFiles& files, const EngramConfig& engram) {
  const TensorInfo* stored = files.find(kTokenMapTensor);
  if (stored == nullptr) {
    return derive_token_map(
        config, "engram_compressed_vocab_size", engram.compressed_vocab_size, engram.pad_token_id);
  }
  return load_token_map(files, engram, stored->shape.empty() ? 0 : stored->shape[0]);
}

bool matches(const PublishedConfig& config) {
  return config.root.contains("engram_layer_ids");
}

Result<PublishedTables> read(const PublishedConfig& config) {
  const Result<EngramConfig> engram = load_engram_config(config.directory);
  if (!engram.ok()) return engram.status();
  if (engram.value().layer_ids.empty()) {
    return memory::invalid_argument(
        config.file + "engram_layer_ids is empty, expected the layers that have tables");
  }
  Result<TensorFiles> files = TensorFiles::open(config.directory);
  if (!files.ok()) return files.status();
  Result<TokenMap> map = read_map(config, files.value(), engram.value());
  if (!map.ok()) return map.status();
  const Result<std::vector<memory::TableGeometry>> geometries =
      check_hash_constants(files.value(), engram.value(), map.value().pad);
  if (!geometries.ok()) return geometries.status();
  PublishedTables published;
  published.token_map = std::move(map).value();
  for (const memory::TableGeometry& g : geometries.value()) {
    const std::string table = engram_prefix(g.layer) + "embedding.";
    ENGRAM_RETURN_IF_ERROR(
        add_whole_table(files.value(), table + "weight", table + "scale", g, &published));
  }
  published.files = std::move(files).value();
  return published;
}

}  // namespace

const TableLayout kEngramLayout = {"EngramForCausalLM", matches, read};

}  // namespace engram::engine

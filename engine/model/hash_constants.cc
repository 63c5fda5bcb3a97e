#include "engine/model/hash_constants.h"

#include "engine/model/hash_families.h"
#include "engine/model/stored_tensors.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::RowCodec;
using memory::Status;
using memory::TableGeometry;
using memory::TensorFiles;
using memory::TensorInfo;

// Canonical ids first appear in the order 0, 1, 2, ... and there are C of them.
Status check_token_map(const std::vector<int32_t>& map, int64_t count, const std::string& where) {
  int64_t seen = 0;
  for (size_t raw = 0; raw < map.size(); ++raw) {
    const int64_t id = map[raw];
    const std::string entry =
        where + ": entry " + std::to_string(raw) + " is " + std::to_string(id) + ", expected ";
    if (id < 0 || id >= count) {
      return memory::invalid_argument(
          entry + "a canonical id from 0 to " + std::to_string(count - 1));
    }
    if (id > seen) {
      return memory::invalid_argument(
          entry + "at most " + std::to_string(seen) + ": ids first appear in ascending order");
    }
    seen += id == seen;
  }
  if (seen != count) {
    return memory::invalid_argument(
        where + ": holds " + std::to_string(seen) + " canonical ids, expected " +
        std::to_string(count) + " (engram_compressed_vocab_size)");
  }
  return {};
}

}  // namespace

std::string engram_prefix(int layer) {
  return "model.layers." + std::to_string(layer) + ".engram.";
}

Result<std::vector<TableGeometry>> check_hash_constants(
    const TensorFiles& files, const EngramConfig& config, int64_t fill_id) {
  std::vector<TableGeometry> geometries = derive_geometries(config, RowCodec::kBf16, fill_id);
  for (TableGeometry& g : geometries) {
    const std::string prefix = engram_prefix(g.layer);
    const std::string where = "layer " + std::to_string(g.layer) + ": ";
    ENGRAM_RETURN_IF_ERROR(compare_stored(files, prefix + "multipliers", where, g.multipliers));
    ENGRAM_RETURN_IF_ERROR(compare_stored(files, prefix + "moduli", where, g.moduli));
    ENGRAM_RETURN_IF_ERROR(
        check_stored_table(files, prefix + "embedding.weight", prefix + "embedding.scale", &g));
  }
  return geometries;
}

Result<TokenMap> load_token_map(
    const TensorFiles& files, const EngramConfig& config, int64_t tokenizer_size) {
  const std::string name = kTokenMapTensor;
  const TensorInfo* stored = files.find(name);
  if (stored != nullptr && stored->shape.size() == 1 && stored->shape[0] != tokenizer_size) {
    return memory::invalid_argument(
        files.path(*stored) + ": " + name + ": has " + std::to_string(stored->shape[0]) +
        " entries, expected " + std::to_string(tokenizer_size) + ", one per id of the tokenizer");
  }
  const Result<const TensorInfo*> tensor =
      find_tensor(files, name, {DType::kI32}, {tokenizer_size});
  if (!tensor.ok()) return tensor.status();
  const std::string where = files.path(*tensor.value()) + ": " + name;
  TokenMap map;
  map.canonical.resize(static_cast<size_t>(tokenizer_size));
  ENGRAM_RETURN_IF_ERROR(
      files.read(*tensor.value(), 0, tensor.value()->bytes, map.canonical.data()));
  ENGRAM_RETURN_IF_ERROR(check_token_map(map.canonical, config.compressed_vocab_size, where));
  const int32_t pad = config.pad_token_id;
  if (pad >= tokenizer_size) {
    return memory::invalid_argument(
        where + ": engram_pad_token_id is " + std::to_string(pad) + ", expected an id below " +
        std::to_string(tokenizer_size));
  }
  map.pad = map.canonical[static_cast<size_t>(pad)];
  return map;
}

Result<HashOnly> load_hash_only(const std::string& directory, int64_t tokenizer_size) {
  Result<ModelConfig> config = load_config(directory);
  if (!config.ok()) return config.status();
  if (config.value().engram.layer_ids.empty()) {
    return memory::failed_precondition(directory + ": the model has no Engram layers");
  }
  const Result<TensorFiles> files = TensorFiles::open(directory);
  if (!files.ok()) return files.status();
  Result<TokenMap> map = load_token_map(files.value(), config.value().engram, tokenizer_size);
  if (!map.ok()) return map.status();
  Result<std::vector<TableGeometry>> geometries =
      check_hash_constants(files.value(), config.value().engram, map.value().pad);
  if (!geometries.ok()) return geometries.status();
  return HashOnly{std::move(config).value(), std::move(geometries).value(), std::move(map).value()};
}

}  // namespace engram::engine

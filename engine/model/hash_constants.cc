#include "engine/model/hash_constants.h"

#include <algorithm>

#include "engine/model/hash_families.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::RowCodec;
using memory::Status;
using memory::TableGeometry;
using memory::TensorFiles;
using memory::TensorInfo;

constexpr int64_t kValuesPerScale = 32;  // values that share one ue8m0 scale

Status compare_constants(
    const TensorFiles& files, int layer, const char* what, const std::vector<int64_t>& derived) {
  const std::string name = engram_prefix(layer) + what;
  const Result<const TensorInfo*> tensor =
      find_tensor(files, name, {DType::kI64}, {static_cast<int64_t>(derived.size())});
  if (!tensor.ok()) return tensor.status();
  std::vector<int64_t> stored(derived.size());
  ENGRAM_RETURN_IF_ERROR(files.read(*tensor.value(), 0, tensor.value()->bytes, stored.data()));
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] == derived[i]) continue;
    return memory::invalid_argument(
        files.path(*tensor.value()) + ": layer " + std::to_string(layer) + ": " + what + "[" +
        std::to_string(i) + "] is " + std::to_string(stored[i]) + ", expected " +
        std::to_string(derived[i]) + " by derivation from config.json");
  }
  return {};
}

RowCodec codec_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return RowCodec::kF32;
    case DType::kF16:
      return RowCodec::kF16;
    case DType::kF8E4m3:
      return RowCodec::kF8Ue8m0;
    default:
      return RowCodec::kBf16;
  }
}

Status check_table(const TensorFiles& files, TableGeometry* g) {
  const std::string name = engram_prefix(g->layer) + "embedding.weight";
  const TensorInfo* stored = files.find(name);
  if (stored != nullptr && stored->shape.size() == 2 && stored->shape[0] != g->rows) {
    return memory::invalid_argument(
        files.path(*stored) + ": " + name + ": has " + std::to_string(stored->shape[0]) +
        " rows, expected " + std::to_string(g->rows) + ", the sum of the moduli");
  }
  const Result<const TensorInfo*> table = find_tensor(
      files, name, {DType::kBf16, DType::kF16, DType::kF32, DType::kF8E4m3},
      {g->rows, g->row_width});
  if (!table.ok()) return table.status();
  g->codec = codec_of(table.value()->dtype);
  if (g->codec != RowCodec::kF8Ue8m0) return {};
  if (g->row_width % kValuesPerScale != 0) {
    return memory::invalid_argument(
        files.path(*table.value()) + ": " + name + ": f8_e4m3 rows of " +
        std::to_string(g->row_width) + " values, expected a multiple of 32");
  }
  return find_tensor(
             files, engram_prefix(g->layer) + "embedding.scale", {DType::kU8, DType::kF8E8m0},
             {g->rows, g->row_width / kValuesPerScale})
      .status();
}

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

Result<const TensorInfo*> find_tensor(
    const TensorFiles& files,
    const std::string& name,
    std::initializer_list<DType> dtypes,
    const std::vector<int64_t>& shape) {
  const TensorInfo* tensor = files.find(name);
  if (tensor == nullptr) {
    return memory::invalid_argument(files.directory() + ": tensor " + name + " is missing");
  }
  const std::string where = files.path(*tensor) + ": " + name + ": ";
  if (std::find(dtypes.begin(), dtypes.end(), tensor->dtype) == dtypes.end()) {
    std::string expected;
    for (const DType dtype : dtypes) {
      expected += (expected.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    return memory::invalid_argument(
        where + "dtype is " + dtype_name(tensor->dtype) + ", expected " + expected);
  }
  if (tensor->shape != shape) {
    return memory::invalid_argument(
        where + "shape is " + memory::shape_text(tensor->shape) + ", expected " +
        memory::shape_text(shape));
  }
  return tensor;
}

Result<std::vector<TableGeometry>> check_hash_constants(
    const TensorFiles& files, const ModelConfig& config, int64_t fill_id) {
  std::vector<TableGeometry> geometries =
      derive_geometries(config.engram, RowCodec::kBf16, fill_id);
  for (TableGeometry& g : geometries) {
    ENGRAM_RETURN_IF_ERROR(compare_constants(files, g.layer, "multipliers", g.multipliers));
    ENGRAM_RETURN_IF_ERROR(compare_constants(files, g.layer, "moduli", g.moduli));
    ENGRAM_RETURN_IF_ERROR(check_table(files, &g));
  }
  return geometries;
}

Result<TokenMap> load_token_map(
    const TensorFiles& files, const ModelConfig& config, int64_t tokenizer_size) {
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
  ENGRAM_RETURN_IF_ERROR(
      check_token_map(map.canonical, config.engram.compressed_vocab_size, where));
  const int32_t pad = config.engram.pad_token_id;
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
  Result<TokenMap> map = load_token_map(files.value(), config.value(), tokenizer_size);
  if (!map.ok()) return map.status();
  Result<std::vector<TableGeometry>> geometries =
      check_hash_constants(files.value(), config.value(), map.value().pad);
  if (!geometries.ok()) return geometries.status();
  return HashOnly{std::move(config).value(), std::move(geometries).value(), std::move(map).value()};
}

}  // namespace engram::engine

// A checkpoint whose hash constants, table shapes and token map are derived and then changed by the
// input. What is accepted must hash every id to a row of its table, and must be the derivation.
#include <fuzzer/FuzzedDataProvider.h>
#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "engine/model/hash_constants.h"
#include "engine/model/hash_families.h"
#include "memory/base/status.h"
#include "tests/support/edited_checkpoint.h"

namespace {

using engram::engine::ModelConfig;
using engram::engine::TokenMap;
using engram::memory::TableGeometry;
using engram::memory::TensorFiles;
using engram::tests::StoredTensor;

struct Directory {
  std::string path;

  Directory() {
    char pattern[] = "/tmp/table_constants_fuzz_XXXXXX";
    path = ::mkdtemp(pattern);
  }
  ~Directory() { std::system(("rm -rf " + path).c_str()); }
};

ModelConfig make_config(FuzzedDataProvider* in) {
  ModelConfig c;
  c.num_hidden_layers = 4;
  c.vocab_size = 64;
  c.engram.layer_ids = {1};
  if (in->ConsumeBool()) c.engram.layer_ids.push_back(in->ConsumeBool() ? 0 : 3);
  c.engram.max_ngram_size = in->ConsumeIntegralInRange(2, 4);
  c.engram.n_heads = in->ConsumeIntegralInRange(1, 3);
  for (int n = 2; n <= c.engram.max_ngram_size; ++n) {
    c.engram.vocab_size.push_back(in->ConsumeIntegralInRange(1, 60));
  }
  c.engram.head_dim = in->ConsumeBool() ? 32 : 4;
  c.engram.compressed_vocab_size = in->ConsumeIntegralInRange(1, 40);
  c.engram.pad_token_id = in->ConsumeIntegralInRange(0, 63);
  c.engram.seed = in->ConsumeIntegral<uint32_t>();
  return c;
}

template <typename T>
StoredTensor vector_tensor(const char* dtype, const std::vector<T>& values) {
  StoredTensor t{dtype, {static_cast<int64_t>(values.size())}, {}};
  t.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return t;
}

// At most a few changes: of bytes, sizes, dtype or presence.
void mutate(FuzzedDataProvider* in, std::map<std::string, StoredTensor>* tensors) {
  for (int changes = in->ConsumeIntegralInRange(0, 3); changes > 0 && !tensors->empty();
       --changes) {
    auto at = tensors->begin();
    std::advance(at, in->ConsumeIntegralInRange<size_t>(0, tensors->size() - 1));
    StoredTensor& t = at->second;
    switch (in->ConsumeIntegralInRange(0, 3)) {
      case 0:
        tensors->erase(at);
        break;
      case 1:
        t.dtype = in->PickValueInArray({"I64", "I32", "F32", "U8", "BF16", "F8_E4M3", "F8_E8M0"});
        break;
      case 2:
        if (!t.shape.empty()) t.shape.back() = in->ConsumeIntegralInRange(0, 70);
        t.bytes.resize(in->ConsumeIntegralInRange<size_t>(0, 600));
        break;
      default:
        if (!t.bytes.empty()) {
          t.bytes[in->ConsumeIntegralInRange<size_t>(0, t.bytes.size() - 1)] ^=
              in->ConsumeIntegral<char>();
        }
    }
  }
}

std::map<std::string, StoredTensor> make_tensors(
    const ModelConfig& c, int64_t tokens, FuzzedDataProvider* in) {
  std::map<std::string, StoredTensor> tensors;
  const bool fp8 = in->ConsumeBool();
  for (const TableGeometry& g :
       engram::engine::derive_geometries(c.engram, engram::memory::RowCodec::kBf16, 0)) {
    const std::string p = engram::engine::engram_prefix(g.layer);
    tensors[p + "multipliers"] = vector_tensor("I64", g.multipliers);
    tensors[p + "moduli"] = vector_tensor("I64", g.moduli);
    const size_t values = static_cast<size_t>(g.rows * g.row_width);
    tensors[p + "embedding.weight"] = {
        fp8 ? "F8_E4M3" : "BF16", {g.rows, g.row_width}, std::string(fp8 ? values : 2 * values, 0)};
    if (fp8) {
      tensors[p + "embedding.scale"] = {
          "U8", {g.rows, g.row_width / 32}, std::string(values / 32, 0)};
    }
  }
  std::vector<int32_t> map;
  int32_t next = 0;
  for (int64_t raw = 0; raw < tokens; ++raw) {
    const bool fresh =
        next < c.engram.compressed_vocab_size && in->ConsumeIntegral<uint8_t>() < 250;
    map.push_back(fresh || next == 0 ? next++ : in->ConsumeIntegralInRange(0, next - 1));
  }
  tensors[engram::engine::kTokenMapTensor] = vector_tensor("I32", map);
  mutate(in, &tensors);
  return tensors;
}

void check_rows(const ModelConfig& c, const TableGeometry& g, const TokenMap& map) {
  std::vector<int32_t> canonical;
  for (int32_t raw = 0; raw < c.vocab_size; ++raw) {
    canonical.push_back(map.of(raw));
    ENGRAM_CHECK(canonical.back() >= 0);
    ENGRAM_CHECK(canonical.back() < c.engram.compressed_vocab_size);
  }
  const int64_t tokens = static_cast<int64_t>(canonical.size());
  std::vector<int64_t> rows(static_cast<size_t>(tokens * g.columns()));
  engram::engine::hash_rows(g, canonical, 0, tokens, rows.data());
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t column = i % static_cast<size_t>(g.columns());
    ENGRAM_CHECK(rows[i] >= g.offsets[column]);
    ENGRAM_CHECK(rows[i] < g.offsets[column] + g.moduli[column]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Directory directory;
  FuzzedDataProvider in(data, size);
  const ModelConfig config = make_config(&in);
  const int64_t tokens = in.ConsumeIntegralInRange(1, 64);
  const auto tensors = make_tensors(config, tokens, &in);
  std::ofstream(directory.path + "/model.safetensors", std::ios::binary)
      << engram::tests::safetensors_bytes(tensors);

  const auto files = TensorFiles::open(directory.path);
  if (!files.ok()) return 0;
  const auto map = engram::engine::load_token_map(files.value(), config.engram, tokens);
  const int64_t pad = map.ok() ? map.value().pad : 0;
  const auto geometries = engram::engine::check_hash_constants(files.value(), config.engram, pad);
  if (!geometries.ok() || !map.ok()) return 0;
  for (const TableGeometry& g : geometries.value()) check_rows(config, g, map.value());
  return 0;
}

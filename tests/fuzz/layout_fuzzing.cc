#include "tests/fuzz/layout_fuzzing.h"

#include <fuzzer/FuzzedDataProvider.h>
#include <stdlib.h>

#include <cstdlib>
#include <fstream>
#include <string_view>

#include "engine/model/tokenizer.h"
#include "memory/base/status.h"

namespace engram::tests {
namespace {

using engine::PublishedTable;
using engine::PublishedTables;
using nlohmann::json;

// Six tokens, of which "a", "A" and "Á" are one canonical id, and an added one.
constexpr std::string_view kTokenizer = R"({"version":"1.0","added_tokens":[{"id":5,"content":"<x>",
"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","vocab":{"a":0,"A":1,"b":2,"Ã":3,"c":4},"merges":[]}})";

struct Directory {
  std::string path;

  Directory() {
    char pattern[] = "/tmp/layout_fuzz_XXXXXX";
    path = ::mkdtemp(pattern);
    write("tokenizer.json", std::string(kTokenizer));
  }
  ~Directory() { std::system(("rm -rf " + path).c_str()); }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path + "/" + name, std::ios::binary) << bytes;
  }
};

const Directory& directory() {
  static const Directory made;
  return made;
}

json any_value(FuzzedDataProvider* in) {
  switch (in->ConsumeIntegralInRange(0, 6)) {
    case 0:
      return nullptr;
    case 1:
      return in->ConsumeIntegral<int64_t>();
    case 2:
      return in->ConsumeProbability<double>() * 1000;
    case 3:
      return in->ConsumeRandomLengthString(8);
    case 4: {
      json list = json::array();
      for (int n = in->ConsumeIntegralInRange(0, 4); n > 0; --n) {
        list.push_back(in->ConsumeIntegralInRange(-1, 20));
      }
      return list;
    }
    case 5:
      return in->ConsumeBool();
    default:
      return in->ConsumeIntegralInRange(-1, 300);
  }
}

void change_config(FuzzedDataProvider* in, json* config) {
  json& fields = config->contains("text_config") ? (*config)["text_config"] : *config;
  for (int changes = in->ConsumeIntegralInRange(0, 3); changes > 0 && !fields.empty(); --changes) {
    auto at = fields.begin();
    std::advance(at, in->ConsumeIntegralInRange<size_t>(0, fields.size() - 1));
    if (in->ConsumeBool()) {
      fields.erase(at);
    } else {
      *at = any_value(in);
    }
  }
}

void change_tensors(FuzzedDataProvider* in, std::map<std::string, StoredTensor>* tensors) {
  for (int changes = in->ConsumeIntegralInRange(0, 3); changes > 0 && !tensors->empty();
       --changes) {
    auto at = tensors->begin();
    std::advance(at, in->ConsumeIntegralInRange<size_t>(0, tensors->size() - 1));
    StoredTensor& t = at->second;
    switch (in->ConsumeIntegralInRange(0, 4)) {
      case 0:
        tensors->erase(at);
        break;
      case 1:
        t.dtype = in->PickValueInArray(
            {"I64", "I32", "F32", "U8", "BF16", "F16", "F8_E4M3", "F8_E8M0", "I8", "BOOL"});
        break;
      case 2:
        t.shape.clear();
        for (int rank = in->ConsumeIntegralInRange(0, 3); rank > 0; --rank) {
          t.shape.push_back(in->ConsumeIntegralInRange(0, 100));
        }
        t.bytes.resize(in->ConsumeIntegralInRange<size_t>(0, 2000));
        break;
      case 3:
        (*tensors)[in->ConsumeRandomLengthString(40)] = t;
        break;
      default:
        if (!t.bytes.empty()) {
          t.bytes[in->ConsumeIntegralInRange<size_t>(0, t.bytes.size() - 1)] ^=
              in->ConsumeIntegral<char>();
        }
    }
  }
}

void check_rows(const PublishedTables& published, const PublishedTable& table) {
  const memory::TableGeometry& g = table.geometry;
  ENGRAM_CHECK(memory::check_geometry(g).ok());
  std::vector<char> bytes(static_cast<size_t>(g.rows * g.value_bytes()));
  ENGRAM_CHECK(engine::read_values(published, table, 0, g.rows, bytes.data()).ok());
  ENGRAM_CHECK(table.scales.empty() == (g.scale_bytes() == 0));
  if (!table.scales.empty()) {
    bytes.resize(static_cast<size_t>(g.rows * g.scale_bytes()));
    ENGRAM_CHECK(engine::read_scales(published, table, 0, g.rows, bytes.data()).ok());
  }
  std::vector<int32_t> ids;
  for (int32_t raw = 0; raw < 40; ++raw) ids.push_back(published.token_map.of(raw));
  std::vector<int64_t> rows(ids.size() * g.moduli.size());
  engine::hash_rows(g, ids, 0, static_cast<int64_t>(ids.size()), rows.data());
  for (size_t i = 0; i < rows.size(); ++i) {
    const size_t column = i % g.moduli.size();
    ENGRAM_CHECK(rows[i] >= g.offsets[column]);
    ENGRAM_CHECK(rows[i] < g.offsets[column] + g.moduli[column]);
  }
}

// Whether it opens; what opens is checked.
bool open_checkpoint(const CheckpointToFuzz& changed) {
  directory().write(
      "config.json", changed.config.dump(-1, ' ', true, json::error_handler_t::replace));
  directory().write(changed.tensor_file, safetensors_bytes(changed.tensors));
  const auto published = engine::open_published_tables(directory().path);
  if (!published.ok()) {
    ENGRAM_CHECK(!published.status().message().empty());
    return false;
  }
  for (const PublishedTable& table : published.value().tables) check_rows(published.value(), table);
  return true;
}

}  // namespace

CheckpointToFuzz checked_base(CheckpointToFuzz base) {
  ENGRAM_CHECK(open_checkpoint(base));
  return base;
}

StoredTensor i64_tensor(const std::vector<int64_t>& values) {
  StoredTensor t{"I64", {static_cast<int64_t>(values.size())}, {}};
  t.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(int64_t));
  return t;
}

StoredTensor row_tensor(const char* dtype, int64_t rows, int64_t width, int64_t value_bytes) {
  return {dtype, {rows, width}, std::string(static_cast<size_t>(rows * width * value_bytes), 0)};
}

engine::CanonicalIds fuzz_canonical_ids() {
  const auto tokenizer = engine::load_tokenizer(directory().path);
  ENGRAM_CHECK(tokenizer.ok());
  return engine::derive_canonical_ids(*tokenizer.value());
}

int fuzz_layout(const CheckpointToFuzz& base, const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  CheckpointToFuzz changed = base;
  change_config(&in, &changed.config);
  change_tensors(&in, &changed.tensors);
  // A name that is not UTF-8 cannot be written into a header.
  for (const auto& [name, tensor] : changed.tensors) {
    for (const char c : name) {
      if (static_cast<unsigned char>(c) >= 0x80) return 0;
    }
  }
  open_checkpoint(changed);
  return 0;
}

}  // namespace engram::tests

#include "tools/synthesize.h"

#include <algorithm>
#include <utility>

#include "engine/model/hash_families.h"

namespace engram::tools {
namespace {

using memory::Result;
using memory::RowCodec;
using memory::Status;
using memory::TableGeometry;
using Geometries = std::vector<TableGeometry>;

constexpr int64_t kMaxRows = int64_t{1} << 40;
// Canonical ids of the DeepSeek tokenizer; its pad.
constexpr int64_t kCanonicalIds = 99092;
constexpr int64_t kPad = 2;

int64_t divide_up(int64_t value, int64_t by) {
  return (value + by - 1) / by;
}

// The paper's hash, at `rows` rows for each head.
engine::EngramConfig paper_hash(
    std::vector<int> layers, int max_ngram, int heads, int64_t width, int64_t rows) {
  engine::EngramConfig config;
  config.layer_ids = std::move(layers);
  config.max_ngram_size = max_ngram;
  config.vocab_size.assign(static_cast<size_t>(max_ngram - 1), rows);
  config.n_heads = heads;
  config.head_dim = width;
  config.compressed_vocab_size = kCanonicalIds;
  return config;
}

// Row counts per head come out a little higher: they are primes, all different.
int64_t rows_per_head(
    const SynthesizeRequest& r, int64_t own, int columns, size_t layers, int64_t width) {
  if (r.rows > 0) return std::max<int64_t>(1, r.rows / columns);
  if (r.params == 0) return own;
  return std::max<int64_t>(1, r.params / (static_cast<int64_t>(layers) * width * columns));
}

Geometries paper(const SynthesizeRequest& r) {
  const int64_t rows = rows_per_head(r, 7239680, 16, 2, 80);
  return engine::derive_geometries(paper_hash({1, 14}, 3, 8, 80, rows), RowCodec::kBf16, kPad);
}

Geometries deepseek(const SynthesizeRequest& r) {
  const int64_t rows = rows_per_head(r, 16000000, 24, 2, 256);
  return engine::derive_v41_geometries(paper_hash({1, 14}, 4, 8, 256, rows), kPad);
}

Geometries qwen(const SynthesizeRequest& r) {
  engine::PleHash hash;
  hash.layers = {1};
  hash.vocab_size = 248320;
  hash.rows_per_head = rows_per_head(r, 20000000, 16, 1, 160);
  hash.rows_multiple = 128;
  hash.eos = 248044;
  hash.row_width = 160;
  return engine::derive_ple_geometries(hash);
}

// Its row counts are multiples of a vocabulary, which is cut where the table is small.
Geometries longcat(const SynthesizeRequest& r) {
  const int64_t rows = rows_per_head(r, int64_t{78} * 131072, 12, 1, 256);
  engine::LongcatHash hash;
  hash.vocab_size = std::min<int64_t>(131072, rows);
  hash.ratio = divide_up(rows, hash.vocab_size);
  hash.eos = std::min<int64_t>(2, hash.vocab_size - 1);
  hash.row_width = 256;
  return {engine::derive_longcat_geometry(hash)};
}

Geometries custom(const SynthesizeRequest& r) {
  const std::vector<int> layers = r.layers.empty() ? std::vector<int>{1} : r.layers;
  const int columns = (r.max_ngram - 1) * r.heads;
  const int64_t rows = rows_per_head(r, 1 << 16, columns, layers.size(), r.width);
  return engine::derive_geometries(
      paper_hash(layers, r.max_ngram, r.heads, r.width, rows), RowCodec::kBf16, kPad);
}

struct Kind {
  const char* name;
  RowCodec codec;
  Geometries (*make)(const SynthesizeRequest&);
};
constexpr Kind kKinds[] = {
    {"paper", RowCodec::kBf16, paper},
    {"deepseek-v4.1-flash", RowCodec::kF8Ue8m0, deepseek},
    {"qwen3.8-flash-next", RowCodec::kBf16, qwen},
    {"longcat-flash-lite", RowCodec::kBf16, longcat},
    {"custom", RowCodec::kBf16, custom},
};

Status check_request(const SynthesizeRequest& r) {
  struct Bound {
    const char* option;
    int64_t value;
    int64_t least;
    int64_t most;
  };
  const Bound bounds[] = {
      {"--rows", r.rows, 0, kMaxRows},
      {"--params", r.params, 0, kMaxRows * 1024},
      {"--orders", r.max_ngram, 2, memory::kMaxNgramOrder},
      {"--heads", r.heads, 1, 128},
      {"--width", r.width, 1, 1 << 16},
  };
  for (const Bound& b : bounds) {
    if (b.value >= b.least && b.value <= b.most) continue;
    return memory::invalid_argument(
        std::string(b.option) + " is " + std::to_string(b.value) + ", expected " +
        std::to_string(b.least) + " to " + std::to_string(b.most));
  }
  if (r.rows > 0 && r.params > 0) return memory::invalid_argument("give --rows or --params");
  for (const int layer : r.layers) {
    if (layer < 0 || layer > 1 << 16 || std::count(r.layers.begin(), r.layers.end(), layer) > 1) {
      return memory::invalid_argument(
          "--layers: " + std::to_string(layer) + " is twice there or is no layer");
    }
  }
  return {};
}

}  // namespace

std::string synthesize_kinds() {
  std::string names;
  for (const Kind& kind : kKinds) names.append(names.empty() ? "" : ", ").append(kind.name);
  return names;
}

Result<Geometries> synthesize_geometries(const SynthesizeRequest& request) {
  ENGRAM_RETURN_IF_ERROR(check_request(request));
  for (const Kind& kind : kKinds) {
    if (request.kind != kind.name) continue;
    Geometries chosen;
    for (TableGeometry& g : kind.make(request)) {
      const auto& layers = request.layers;
      if (!layers.empty() && std::count(layers.begin(), layers.end(), g.layer) == 0) continue;
      g.codec = request.codec.value_or(kind.codec);
      g.group = request.group;
      g.tensor_scale = g.codec == RowCodec::kF8Tensor ? 0.0078125f : 1.f;
      ENGRAM_RETURN_IF_ERROR(memory::check_geometry(g));
      ENGRAM_RETURN_IF_ERROR(memory::check_codec(g));
      chosen.push_back(std::move(g));
    }
    if (chosen.empty()) return memory::invalid_argument("--layers: the model has none of these");
    return chosen;
  }
  return memory::invalid_argument(
      "--synthesize " + request.kind + ": expected one of " + synthesize_kinds());
}

}  // namespace engram::tools

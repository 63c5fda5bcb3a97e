#include "tools/bench/paper_model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/model/model.h"
#include "engine/model/weights.h"
#include "tools/bench/sized_model.h"

namespace engram::tools::bench {
namespace {

using engine::ModelConfig;
using memory::Result;

constexpr int64_t kStep = 64;    // widths are multiples of it
constexpr int kPageTokens = 16;  // of the cache
constexpr int64_t kOtherBytes = int64_t{1} << 29;

int64_t scaled(int64_t value, double scale, int64_t step, int64_t least) {
  if (scale == 1) return value;
  const double steps = scale * static_cast<double>(value) / static_cast<double>(step);
  return std::max(least, step * static_cast<int64_t>(std::llround(steps)));
}

std::string billions(int64_t parameters) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3gB", 1e-9 * static_cast<double>(parameters));
  return text;
}

}  // namespace

const PaperFigures* find_paper_figures(const std::string& directory) {
  for (const PaperFigures& figures : kPaperFigures) {
    if (directory == figures.directory) return &figures;
  }
  return nullptr;
}

Result<std::string> scale_config(
    const std::string& json,
    const std::string& file,
    const PaperScale& scale,
    int64_t table_parameters) {
  const Result<ModelConfig> whole = engine::parse_config(json, file);
  if (!whole.ok()) return whole.status();
  const ModelConfig& c = whole.value();
  if (c.engram.layer_ids.empty()) {
    return memory::invalid_argument(file + ": the model has no Engram layers");
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::parse(json, nullptr, false);
  if (out.is_discarded()) return memory::invalid_argument(file + " is no JSON");
  const int64_t last = *std::ranges::max_element(c.engram.layer_ids);
  out["num_hidden_layers"] = scaled(c.num_hidden_layers, scale.layers, 1, last + 1);
  out["hidden_size"] = scaled(c.hidden_size, scale.width, kStep, kStep);
  out["intermediate_size"] = scaled(c.intermediate_size, scale.width, kStep, kStep);
  const int64_t group = c.num_attention_heads / c.num_key_value_heads;
  const int64_t kv_heads = scaled(c.num_key_value_heads, scale.width, 1, 1);
  out["num_key_value_heads"] = kv_heads;
  out["num_attention_heads"] = group * kv_heads;
  const int64_t width = std::ssize(c.engram.layer_ids) * c.engram.vector_width();
  out["engram_vocab_size"] = std::max<int64_t>(1, table_parameters / width);
  return out.dump(1) + "\n";
}

Result<double> table_parameter_bytes(const ModelConfig& config, memory::RowCodec codec) {
  const Result<memory::TableGeometry> row = engine::dummy_row_shape(config.engram.head_dim, codec);
  if (!row.ok()) return row.status();
  const int64_t bytes = row.value().value_bytes() + row.value().scale_bytes();
  return static_cast<double>(bytes) / static_cast<double>(row.value().row_width);
}

PaperNeeds paper_needs(const ModelConfig& config, const PaperSize& size) {
  PaperNeeds needs;
  needs.weights = 2 * model_parameters(config) * 11 / 10;  // bf16, padded to panels
  needs.tables = std::llround(
      table_parameter_bytes(config, size.codec).value() *
      static_cast<double>(size.table_parameters));
  const int64_t pages = size.sequences * (size.longest / kPageTokens + 2);
  needs.cache =
      pages * engine::kv_shape(config, kPageTokens, size.activations, size.cache).page_bytes();
  needs.other = kOtherBytes;
  return needs;
}

std::string describe_scaling(
    const ModelConfig& whole, const ModelConfig& scaled, int64_t table_parameters) {
  std::string text;
  const auto add = [&](const std::string& what, const std::string& from, const std::string& to) {
    if (from == to) return;
    text += (text.empty() ? "" : ", ") + what + " " + from + " -> " + to;
  };
  const auto number = [](int64_t value) { return std::to_string(value); };
  add("layers", number(whole.num_hidden_layers), number(scaled.num_hidden_layers));
  add("hidden size", number(whole.hidden_size), number(scaled.hidden_size));
  add("feed-forward size", number(whole.intermediate_size), number(scaled.intermediate_size));
  add("attention heads", number(whole.num_attention_heads), number(scaled.num_attention_heads));
  add("table parameters", billions(kPaperTableParameters), billions(table_parameters));
  return text;
}

}  // namespace engram::tools::bench

#include "engine/model/published_tables.h"

#include <algorithm>
#include <array>

#include "engine/model/canonical_ids.h"
#include "engine/model/stored_tensors.h"
#include "engine/model/table_layout.h"
#include "engine/model/tokenizer.h"
#include "memory/io/file.h"
#include "memory/io/json.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using memory::TableGeometry;
using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 16 << 20;
// The more particular ones first.
constexpr std::array kLayouts = {
    &kPeftLayout, &kPleLayout, &kLongcatLayout, &kV41Layout, &kEngramLayout};

Result<PublishedConfig> read_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  const Result<std::string> text = memory::read_text_file(file, kMaxConfigBytes);
  if (!text.ok()) return text.status();
  Result<json> root = memory::parse_json(text.value(), file);
  if (!root.ok()) return root.status();
  if (!root.value().is_object()) {
    return memory::invalid_argument(
        file + ": is " + memory::json_excerpt(root.value()) + ", expected an object");
  }
  return PublishedConfig{directory, file + ": ", std::move(root).value()};
}

Status read_rows(
    const memory::TensorFiles& files,
    const std::vector<RowPiece>& pieces,
    int64_t begin,
    int64_t end,
    int64_t row_bytes,
    uint8_t* to) {
  auto piece = std::upper_bound(
      pieces.begin(), pieces.end(), begin,
      [](int64_t row, const RowPiece& p) { return row < p.end; });
  while (begin < end) {
    ENGRAM_CHECK(piece != pieces.end());
    ENGRAM_CHECK(begin >= piece->begin);
    const int64_t last = std::min(end, piece->end);
    const int64_t bytes = (last - begin) * row_bytes;
    ENGRAM_RETURN_IF_ERROR(
        files.read(piece->tensor, (begin - piece->begin) * row_bytes, bytes, to));
    to += bytes;
    begin = last;
    ++piece;
  }
  return {};
}

}  // namespace

const json& PublishedConfig::text() const {
  const auto nested = root.find("text_config");
  return nested != root.end() && nested->is_object() ? *nested : root;
}

JsonFields PublishedConfig::text_fields() const {
  const json& object = text();
  return JsonFields(object, &object == &root ? file : file + "text_config.");
}

Status add_whole_table(
    const memory::TensorFiles& files,
    const std::string& weight,
    const std::string& scale,
    TableGeometry geometry,
    PublishedTables* published) {
  ENGRAM_RETURN_IF_ERROR(check_stored_table(files, weight, scale, &geometry));
  PublishedTable table;
  table.values.push_back({0, geometry.rows, *files.find(weight)});
  if (geometry.scale_bytes() > 0) table.scales.push_back({0, geometry.rows, *files.find(scale)});
  table.geometry = std::move(geometry);
  published->tables.push_back(std::move(table));
  return {};
}

Result<TokenMap> derive_token_map(
    const PublishedConfig& config, const char* field, int64_t expected, int64_t pad) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(config.directory);
  if (!tokenizer.ok()) return tokenizer.status();
  CanonicalIds ids = derive_canonical_ids(*tokenizer.value());
  if (ids.count != expected) {
    return memory::invalid_argument(
        config.file + field + " is " + std::to_string(expected) + ", expected " +
        std::to_string(ids.count) + ", the canonical ids of tokenizer.json with Unicode " +
        unicode_version());
  }
  if (pad >= static_cast<int64_t>(ids.map.size())) {
    return memory::invalid_argument(
        config.file + "the pad's id is " + std::to_string(pad) +
        ", expected one of tokenizer.json's " + std::to_string(ids.map.size()) + " ids");
  }
  TokenMap map;
  map.pad = ids.map[static_cast<size_t>(pad)];
  map.canonical = std::move(ids.map);
  return map;
}

Result<PublishedTables> open_published_tables(const std::string& directory) {
  const Result<PublishedConfig> config = read_config(directory);
  if (!config.ok()) return config.status();
  const auto layout = std::ranges::find_if(
      kLayouts, [&](const TableLayout* known) { return known->matches(config.value()); });
  if (layout == kLayouts.end()) {
    std::string names;
    for (const TableLayout* known : kLayouts)
      names += std::string(names.empty() ? "" : ", ") + known->name;
    return memory::invalid_argument(
        directory + ": holds n-gram tables of no layout known here (" + names + ")");
  }
  Result<PublishedTables> published = (*layout)->read(config.value());
  if (!published.ok()) return published.status();
  std::vector<PublishedTable>& tables = published.value().tables;
  for (const PublishedTable& table : tables) {
    const Status status = check_geometry(table.geometry);
    if (!status.ok()) return memory::invalid_argument(directory + ": " + status.message());
  }
  std::ranges::sort(tables, {}, [](const PublishedTable& table) { return table.geometry.layer; });
  published.value().layout = (*layout)->name;
  return published;
}

Status read_values(
    const PublishedTables& published,
    const PublishedTable& table,
    int64_t begin,
    int64_t end,
    void* to) {
  return read_rows(
      published.files, table.values, begin, end, table.geometry.value_bytes(),
      static_cast<uint8_t*>(to));
}

Status read_scales(
    const PublishedTables& published,
    const PublishedTable& table,
    int64_t begin,
    int64_t end,
    void* to) {
  return read_rows(
      published.files, table.scales, begin, end, table.geometry.scale_bytes(),
      static_cast<uint8_t*>(to));
}

}  // namespace engram::engine

// engram hash: which table rows a text reads, offline. For finding out why two systems disagree.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/ngram.h"
#include "engine/model/published_tables.h"
#include "engine/model/tokenizer.h"
#include "tools/command.h"

namespace engram::tools {
namespace {

struct HashArguments {
  std::string model;
  std::string ids;
  std::string text;
  bool no_special = false;
  bool json = false;
};

int complain(const memory::Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return kFailed;
}

// Rows of every position, by layer: [layer][position][column].
std::map<int, std::vector<std::vector<int64_t>>> hash_all(
    const engine::PublishedTables& published, const std::vector<int32_t>& canonical) {
  std::map<int, std::vector<std::vector<int64_t>>> rows;
  const int64_t count = static_cast<int64_t>(canonical.size());
  for (const engine::PublishedTable& table : published.tables) {
    const memory::TableGeometry& geometry = table.geometry;
    const size_t columns = static_cast<size_t>(geometry.columns());
    std::vector<int64_t> flat(canonical.size() * columns);
    engine::hash_rows(geometry, canonical, 0, count, flat.data());
    std::vector<std::vector<int64_t>>& of_layer = rows[geometry.layer];
    for (size_t t = 0; t < canonical.size(); ++t) {
      const auto begin = flat.begin() + static_cast<int64_t>(t * columns);
      of_layer.emplace_back(begin, begin + static_cast<int64_t>(columns));
    }
  }
  return rows;
}

// tokenizer: null when the directory has none that is known, which only --ids can do without.
int read_raw_ids(
    const HashArguments& a, const engine::Tokenizer* tokenizer, std::vector<int32_t>* raw) {
  if (a.ids.empty()) {
    *raw = tokenizer->encode(a.text == "-" ? read_input() : a.text, !a.no_special);
    return kDone;
  }
  std::vector<uint32_t> ids;
  if (!parse_ids(a.ids, &ids)) {
    return report_usage("--ids: expected ids such as 5,7,11, got " + a.ids);
  }
  const int64_t size = tokenizer != nullptr ? tokenizer->size() : int64_t{1} << 31;
  for (const uint32_t id : ids) {
    if (int64_t{id} >= size) {
      std::fprintf(
          stderr, "engram: --ids: %u is outside the tokenizer's %lld ids\n", id,
          static_cast<long long>(size));
      return kFailed;
    }
    raw->push_back(static_cast<int32_t>(id));
  }
  return kDone;
}

int hash(const HashArguments& a) {
  const auto loaded_tokenizer = engine::load_tokenizer(a.model);
  if (!loaded_tokenizer.ok() && a.ids.empty()) return complain(loaded_tokenizer.status());
  const engine::Tokenizer* tokenizer =
      loaded_tokenizer.ok() ? loaded_tokenizer.value().get() : nullptr;
  std::vector<int32_t> raw;
  if (const int code = read_raw_ids(a, tokenizer, &raw); code != kDone) return code;
  const memory::Result<engine::PublishedTables> loaded = engine::open_published_tables(a.model);
  if (!loaded.ok()) return complain(loaded.status());
  std::vector<int32_t> canonical;
  for (const int32_t id : raw) canonical.push_back(loaded.value().token_map.of(id));
  const auto rows = hash_all(loaded.value(), canonical);
  if (a.json) {
    nlohmann::ordered_json object = {{"canonical_ids", canonical}};
    object["rows"] = nlohmann::ordered_json::object();
    for (const auto& [layer, of_layer] : rows) object["rows"][std::to_string(layer)] = of_layer;
    std::printf("%s\n", object.dump().c_str());
    return kDone;
  }
  for (size_t t = 0; t < raw.size(); ++t) {
    const std::string bytes(tokenizer != nullptr ? tokenizer->token_bytes(raw[t]) : "");
    const std::string piece =
        nlohmann::json(bytes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    std::printf("position %zu  id %d  canonical %d  %s\n", t, raw[t], canonical[t], piece.c_str());
    for (const auto& [layer, of_layer] : rows) {
      std::printf("  layer %d ", layer);
      for (const int64_t row : of_layer[t]) std::printf(" %lld", static_cast<long long>(row));
      std::printf("\n");
    }
  }
  return kDone;
}

}  // namespace

void add_hash_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand(
      "hash",
      "Canonical ids and table rows of a text, offline, from a checkpoint's directory of any "
      "layout "
      "that `engram convert` reads");
  auto a = std::make_shared<HashArguments>();
  command->add_option("--model", a->model, "Directory of the checkpoint")->required();
  CLI::Option* ids = command->add_option("--ids", a->ids, "Token ids: 5,7,11");
  CLI::Option* text = command->add_option("--text", a->text, "Text; - reads standard input");
  command->add_flag("--no-add-special-tokens", a->no_special, "No begin-of-text in front");
  command->add_flag(
      "--json", a->json, R"({"canonical_ids": [...], "rows": {"LAYER": [[rows], ...]}})");
  command->callback([a, ids, text, invocation] {
    const bool one = (ids->count() > 0) != (text->count() > 0);
    invocation->run = [a, one] { return one ? hash(*a) : report_usage("give --ids or --text"); };
  });
}

}  // namespace engram::tools

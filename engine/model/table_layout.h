// What the readers of the published layouts share. Each layout is one value, defined in the file of
// its name; published_tables.cc tries them in turn. Includes nlohmann-json: for .cc files only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/model/json_fields.h"
#include "engine/model/published_tables.h"

namespace engram::engine {

// config.json of a directory. Multimodal models keep the part of the text in text_config.
struct PublishedConfig {
  std::string directory;
  std::string file;     // for messages: "DIRECTORY/config.json: "
  nlohmann::json root;  // an object

  const nlohmann::json& text() const;
  JsonFields text_fields() const;  // names the nested object in messages
};

struct TableLayout {
  const char* name;
  bool (*matches)(const PublishedConfig& config);
  memory::Result<PublishedTables> (*read)(const PublishedConfig& config);
};

extern const TableLayout kEngramLayout;
extern const TableLayout kV41Layout;
extern const TableLayout kPleLayout;
extern const TableLayout kLongcatLayout;
extern const TableLayout kPeftLayout;

// Bounds of what a configuration may ask for; what they multiply to stays below 2^63.
constexpr int64_t kMaxPublishedVocab = 1 << 22;
constexpr int64_t kMaxPublishedHeads = 256;
constexpr int64_t kMaxPublishedRowsPerHead = int64_t{1} << 34;
constexpr int64_t kMaxPublishedWidth = 1 << 16;
constexpr int64_t kMaxPublishedLayer = 4095;
constexpr int64_t kMaxPublishedColumns = 1 << 14;  // of all layers

// One piece with all rows: the tensor `weight`, and `scale` beside f8_e4m3 values. Sets the codec.
memory::Status add_whole_table(
    const memory::TensorFiles& files,
    const std::string& weight,
    const std::string& scale,
    memory::TableGeometry geometry,
    PublishedTables* published);

// The map that tokenizer.json of the directory gives, and the id of its pad. C must be `expected`
// (the field's name is for the message).
memory::Result<TokenMap> derive_token_map(
    const PublishedConfig& config, const char* field, int64_t expected, int64_t pad);

}  // namespace engram::engine

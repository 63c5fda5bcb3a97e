#include "server/yaml_file.h"

#include <yaml-cpp/yaml.h>

#include <fstream>
#include <sstream>

namespace engram::server {
namespace {

constexpr size_t kMostBytes = 1 << 20;

using Entries = std::vector<std::pair<std::string, std::string>>;

memory::Status bad_value(const std::string& file, const YAML::Node& key) {
  return memory::invalid_argument(
      file + ":" + std::to_string(key.Mark().line + 1) + ": the value of \"" + key.Scalar() +
      "\" must be a scalar or a list of scalars");
}

memory::Result<Entries> read_map(const std::string& file, const YAML::Node& root) {
  Entries entries;
  if (root.IsNull()) return entries;
  if (!root.IsMap()) return memory::invalid_argument(file + ": expected a map of flags to values");
  for (const auto& pair : root) {
    if (!pair.first.IsScalar()) return memory::invalid_argument(file + ": a key is not a word");
    if (pair.second.IsNull()) continue;  // "name:" leaves the default, as --print-config writes it
    std::string value;
    if (pair.second.IsScalar()) {
      value = pair.second.Scalar();
    } else if (pair.second.IsSequence()) {
      for (const YAML::Node& item : pair.second) {
        if (!item.IsScalar()) return bad_value(file, pair.first);
        value += (value.empty() ? "" : ",") + item.Scalar();
      }
    } else {
      return bad_value(file, pair.first);
    }
    entries.emplace_back(pair.first.Scalar(), std::move(value));
  }
  return entries;
}

}  // namespace

memory::Result<Entries> read_flat_yaml(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (!stream || !(text << stream.rdbuf())) {
    return memory::not_found("--config " + file + ": cannot be read");
  }
  if (text.str().size() > kMostBytes) {
    return memory::invalid_argument(file + ": larger than 1 MiB");
  }
  try {
    return read_map(file, YAML::Load(text.str()));
  } catch (const YAML::Exception& error) {
    return memory::invalid_argument(file + ": " + error.what());
  }
}

}  // namespace engram::server

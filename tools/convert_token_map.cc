#include "tools/convert_token_map.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "engine/model/canonical_ids.h"
#include "engine/model/config.h"
#include "engine/model/hash_constants.h"
#include "engine/model/tokenizer.h"
#include "memory/io/safetensors.h"
#include "tools/command.h"

namespace engram::tools {
namespace {

using memory::Status;
namespace fs = std::filesystem;

int complain(const Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return kFailed;
}

Status system_status(const std::string& what, const std::error_code& error) {
  return memory::failed_precondition(what + ": " + error.message());
}

// A file with one tensor, [count] of int32.
Status write_map(const std::string& path, const std::vector<int32_t>& map) {
  const size_t bytes = map.size() * sizeof(int32_t);
  const nlohmann::json header = {
      {engine::kTokenMapTensor,
       {{"dtype", "I32"}, {"shape", {map.size()}}, {"data_offsets", {0, bytes}}}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.write(reinterpret_cast<const char*>(map.data()), static_cast<std::streamsize>(bytes));
  file.close();
  return file ? Status() : memory::failed_precondition(path + ": cannot be written");
}

// The single file of a checkpoint becomes a shard beside the map's.
std::string name_in_copy(const std::string& name) {
  return name == "model.safetensors" ? "model-weights.safetensors" : name;
}

// Names the file of every tensor, so that several files make one checkpoint.
Status write_index(
    const std::string& path, const memory::TensorFiles& files, const std::string& map_file) {
  nlohmann::ordered_json weight_map;
  int64_t total = 0;
  for (const memory::TensorInfo& tensor : files.tensors()) {
    weight_map[tensor.name] = name_in_copy(fs::path(files.path(tensor)).filename().string());
    total += tensor.bytes;
  }
  weight_map[engine::kTokenMapTensor] = map_file;
  const nlohmann::ordered_json index = {
      {"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  std::ofstream file(path, std::ios::binary);
  file << index.dump(1) << "\n";
  file.close();
  return file ? Status() : memory::failed_precondition(path + ": cannot be written");
}

// Everything but the index, which is written anew.
Status copy_files(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_directories(to, error);
  if (error) return system_status(to.string(), error);
  for (fs::directory_iterator it(from, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (name == "model.safetensors.index.json" || !it->is_regular_file(ignored)) continue;
    const std::string target = name_in_copy(name);
    fs::copy_file(it->path(), to / target, error);
    if (error) return system_status((to / target).string(), error);
  }
  return error ? system_status(from.string(), error) : Status();
}

}  // namespace

int convert_token_map(const std::string& model, const std::string& out) {
  const auto config = engine::load_config(model);
  if (!config.ok()) return complain(config.status());
  if (config.value().engram.layer_ids.empty()) {
    return complain(memory::failed_precondition(model + ": the model has no Engram layers"));
  }
  const auto tokenizer = engine::load_tokenizer(model);
  if (!tokenizer.ok()) return complain(tokenizer.status());
  const auto files = memory::TensorFiles::open(model);
  if (!files.ok()) return complain(files.status());
  if (files.value().find(engine::kTokenMapTensor) != nullptr) {
    return complain(memory::failed_precondition(
        model + ": has a " + engine::kTokenMapTensor + "; there is nothing to derive"));
  }
  const engine::CanonicalIds derived = engine::derive_canonical_ids(*tokenizer.value());
  const int64_t wanted = config.value().engram.compressed_vocab_size;
  if (derived.count != wanted) {
    return complain(memory::failed_precondition(
        "the map derived with Unicode " + engine::unicode_version() + " has " +
        std::to_string(derived.count) + " canonical ids, config.json says " +
        std::to_string(wanted) + ": the checkpoint was made with other Unicode tables"));
  }
  if (fs::exists(out)) {
    return complain(memory::failed_precondition(out + ": exists; give a new directory"));
  }
  Status status = copy_files(model, out);
  const std::string map_file = "model-token-map.safetensors";
  if (status.ok()) status = write_map(out + "/" + map_file, derived.map);
  if (status.ok()) {
    status = write_index(out + "/model.safetensors.index.json", files.value(), map_file);
  }
  if (!status.ok()) return complain(status);
  std::printf(
      "%s: token map of %zu ids, %lld canonical, derived with Unicode %s\n", out.c_str(),
      derived.map.size(), static_cast<long long>(derived.count), engine::unicode_version().c_str());
  return kDone;
}

}  // namespace engram::tools

#include "tests/support/edited_checkpoint.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/support/bytes.h"

namespace engram::tests {

using nlohmann::json;

EditedCheckpoint EditedCheckpoint::read(const std::string& directory) {
  EditedCheckpoint checkpoint;
  checkpoint.config = json::parse(file_bytes(directory + "/config.json"));
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") checkpoint.add_tensors(entry.path().string());
  }
  return checkpoint;
}

void EditedCheckpoint::add_tensors(const std::string& path) {
  const std::string file = file_bytes(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const json header = json::parse(file.substr(8, length));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const size_t begin = entry["data_offsets"][0].get<size_t>();
    const size_t end = entry["data_offsets"][1].get<size_t>();
    tensors[name] = {
        entry["dtype"].get<std::string>(), entry["shape"].get<std::vector<int64_t>>(),
        file.substr(8 + length + begin, end - begin)};
  }
}

std::string safetensors_bytes(const std::map<std::string, StoredTensor>& tensors) {
  json header = json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {
        {"dtype", tensor.dtype},
        {"shape", tensor.shape},
        {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  const uint64_t length = text.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + text + data;
}

void EditedCheckpoint::write(const std::string& directory) const {
  std::ofstream(directory + "/config.json") << config.dump(1);
  std::ofstream(directory + "/model.safetensors", std::ios::binary) << safetensors_bytes(tensors);
}

int64_t tokenizer_size(const std::string& directory) {
  const json tokenizer = json::parse(file_bytes(directory + "/tokenizer.json"));
  std::set<int64_t> ids;
  for (const auto& [text, id] : tokenizer["model"]["vocab"].items()) ids.insert(id.get<int64_t>());
  for (const json& token : tokenizer["added_tokens"]) ids.insert(token["id"].get<int64_t>());
  return static_cast<int64_t>(ids.size());
}

}  // namespace engram::tests

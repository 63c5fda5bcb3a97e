// A checkpoint in memory, to be changed and written elsewhere: how tests make broken ones.
// Includes nlohmann-json.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace engram::tests {

struct StoredTensor {
  std::string dtype;  // as in the header: "BF16"
  std::vector<int64_t> shape;
  std::string bytes;

  // Element `index` as T; the dtype is the caller's business.
  template <typename T>
  void set(size_t index, T value) {
    bytes.replace(index * sizeof(T), sizeof(T), reinterpret_cast<const char*>(&value), sizeof(T));
  }
  template <typename T>
  T get(size_t index) const {
    T value{};
    bytes.copy(reinterpret_cast<char*>(&value), sizeof(T), index * sizeof(T));
    return value;
  }
};

struct EditedCheckpoint {
  nlohmann::json config;
  std::map<std::string, StoredTensor> tensors;

  // Reads config.json and the tensors of all safetensors files.
  static EditedCheckpoint read(const std::string& directory);
  void add_tensors(const std::string& path);
  // Writes both; the tensors as model.safetensors, in order of their names.
  void write(const std::string& directory) const;

  StoredTensor& at(const std::string& name) { return tensors.at(name); }
};

// A safetensors file of those tensors.
std::string safetensors_bytes(const std::map<std::string, StoredTensor>& tensors);

// len(tokenizer) of a directory's tokenizer.json.
int64_t tokenizer_size(const std::string& directory);

}  // namespace engram::tests

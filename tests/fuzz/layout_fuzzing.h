// Checkpoints with n-gram tables, changed by the fuzzer's input in a few places: fields of the
// configuration, and name, dtype, shape or bytes of tensors. What opens must hash every id to a row
// of its table, and have every byte of every row.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/canonical_ids.h"
#include "engine/model/published_tables.h"
#include "tests/support/edited_checkpoint.h"

namespace engram::tests {

struct CheckpointToFuzz {
  nlohmann::json config;
  std::map<std::string, StoredTensor> tensors;
  std::string tensor_file = "model.safetensors";
};

StoredTensor i64_tensor(const std::vector<int64_t>& values);
// Zeros; the bytes of a row are its width times the size of one value.
StoredTensor row_tensor(const char* dtype, int64_t rows, int64_t width, int64_t value_bytes);

// Of the tokenizer beside every fuzzed checkpoint.
engine::CanonicalIds fuzz_canonical_ids();

// The same, once it has been opened as it is, which must succeed.
CheckpointToFuzz checked_base(CheckpointToFuzz base);

int fuzz_layout(const CheckpointToFuzz& base, const uint8_t* data, size_t size);

}  // namespace engram::tests

// Where the checkpoints of the tests are. They are made before the first test that needs one, by
// make_test_checkpoints.py (ctest fixture and CMake target `test_checkpoints`).
#pragma once

#include <string>

namespace engram::tests {

// Names: tiny-dense, tiny-engram, tiny-engram-fp8, tiny-llama3-rope, tiny-qwen3-engram,
// tiny-engram-bias, tiny-engram-yarn, tiny-engram-f16, tiny-engram-f32; hf-llama3, hf-llama-bias,
// hf-llama-yarn, hf-qwen3.
inline std::string checkpoint_directory(const std::string& name) {
  return std::string(ENGRAM_TEST_CHECKPOINTS) + "/" + name;
}

// The trained demo model of the repository.
inline std::string demo_directory() {
  return std::string(ENGRAM_SOURCE_DIR) + "/configs/demo";
}

// tests/golden/NAME.seed1.json, computed by tests/support/reference (hf-*: by transformers).
inline std::string golden_file(const std::string& name) {
  return std::string(ENGRAM_SOURCE_DIR) + "/tests/golden/" + name + ".seed1.json";
}

}  // namespace engram::tests

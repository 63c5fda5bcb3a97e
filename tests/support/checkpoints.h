// Where the checkpoints of the tests are. They are made before the first test that needs one, by
// make_test_checkpoints.py (ctest fixture and CMake target `test_checkpoints`). Programs that were
// carried to another machine find them, and what the repository holds, by ENGRAM_TEST_DATA.
#pragma once

#include <cstdlib>
#include <string>

namespace engram::tests {

// A file of the repository.
inline std::string source_file(const std::string& name) {
  const char* data = std::getenv("ENGRAM_TEST_DATA");
  return std::string(data != nullptr ? data : ENGRAM_SOURCE_DIR) + "/" + name;
}

// Names: tiny-dense, tiny-engram, tiny-engram-fp8, tiny-llama3-rope, tiny-qwen3-engram,
// tiny-engram-bias, tiny-engram-yarn, tiny-engram-f16, tiny-engram-f32, tiny-fp8-weights;
// hf-llama3, hf-llama-bias, hf-llama-yarn, hf-qwen3.
inline std::string checkpoint_directory(const std::string& name) {
  const char* data = std::getenv("ENGRAM_TEST_DATA");
  const std::string made =
      data != nullptr ? std::string(data) + "/checkpoints" : ENGRAM_TEST_CHECKPOINTS;
  return made + "/" + name;
}

// The trained demo model of the repository.
inline std::string demo_directory() {
  return source_file("configs/demo");
}

// tests/golden/NAME.seed1.json, computed by tests/support/reference (hf-*: by transformers).
inline std::string golden_file(const std::string& name) {
  return source_file("tests/golden/" + name + ".seed1.json");
}

}  // namespace engram::tests

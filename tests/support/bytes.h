// Bytes of texts and of small files, and files whose bytes change.
#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "memory/base/status.h"

namespace engram::tests {

inline std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// The bytes of a file; "" when there is none.
inline std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Flips one bit of the byte `at` of a file.
inline void flip_bit(const std::string& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(static_cast<char>(byte ^ 0x10));
  ENGRAM_CHECK(file.good());
}

}  // namespace engram::tests

// Reading and comparing goldens that are text: files, lines and the hash that stands for long data.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace engram::tests {

// FNV-1a, 64 bits, in hexadecimal.
inline std::string hash_of(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  }
  std::ostringstream text;
  text << std::hex << hash;
  return text.str();
}

// Of 32-bit integers, little-endian.
inline std::string hash_of(const std::vector<int32_t>& numbers) {
  std::string bytes;
  for (const int32_t number : numbers) {
    for (int shift = 0; shift < 32; shift += 8) {
      bytes += static_cast<char>(static_cast<uint32_t>(number) >> shift);
    }
  }
  return hash_of(bytes);
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  INFO(path);
  REQUIRE(file.is_open());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::vector<std::string> read_lines(const std::string& path) {
  std::istringstream text(read_text(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    lines.push_back(line);
  }
  return lines;
}

}  // namespace engram::tests

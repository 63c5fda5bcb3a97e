#include "engine/model/byte_alphabet.h"

#include <array>

#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

constexpr int kFirstExtra = 256;
constexpr int kExtraChars = 68;

constexpr bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<char32_t, 256> to_char{};
  std::array<int16_t, kFirstExtra + kExtraChars> to_byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.to_byte) {
    byte = -1;
  }
  int next = kFirstExtra;
  for (int byte = 0; byte < 256; ++byte) {
    const int code = stands_for_itself(byte) ? byte : next++;
    alphabet.to_char[static_cast<size_t>(byte)] = static_cast<char32_t>(code);
    alphabet.to_byte[static_cast<size_t>(code)] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t byte_to_char(uint8_t byte) {
  return kAlphabet.to_char[byte];
}

int char_to_byte(char32_t code) {
  return code < kAlphabet.to_byte.size() ? kAlphabet.to_byte[code] : -1;
}

std::optional<std::string> bytes_of_vocabulary_string(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    const int byte = c.valid ? char_to_byte(c.code) : -1;
    if (byte < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(byte);
    at += c.bytes;
  }
  return bytes;
}

std::string vocabulary_string_of_bytes(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    append_utf8(byte_to_char(static_cast<uint8_t>(byte)), text);
  }
  return text;
}

}  // namespace engram::engine

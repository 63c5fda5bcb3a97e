#include "engine/model/utf8.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <string>

#include "engine/model/byte_alphabet.h"

namespace engram::engine {
namespace {

// Every prefix of every well-formed sequence, and which of them are whole.
struct Sequences {
  std::set<std::string> prefixes;
  std::set<std::string> whole;

  Sequences() {
    for (char32_t c = 0; c <= 0x10FFFF; c = c == 0xD7FF ? 0xE000 : c + 1) {
      std::string text;
      append_utf8(c, text);
      whole.insert(text);
      for (size_t size = 1; size <= text.size(); ++size) {
        prefixes.insert(text.substr(0, size));
      }
    }
  }

  // Substitution of maximal subparts, by its definition.
  std::string replaced(const std::string& text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      size_t size = std::min<size_t>(4, text.size() - at);
      while (size > 1 && prefixes.count(text.substr(at, size)) == 0) {
        --size;
      }
      const std::string part = text.substr(at, size);
      out += whole.count(part) > 0 ? part : "\uFFFD";
      at += size;
    }
    return out;
  }
};

TEST_CASE("every code point is written and read", "[utf8]") {
  int64_t wrong = 0;
  for (char32_t c = 0; c <= 0x10FFFF; c = c == 0xD7FF ? 0xE000 : c + 1) {
    std::string text = "x";
    append_utf8(c, text);
    const Utf8Char read = utf8_at(text, 1);
    const bool right = read.valid && read.code == c && read.bytes == text.size() - 1 &&
                       utf8_previous(text, text.size()) == 1 && is_valid_utf8(text);
    wrong += right ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("ill-formed bytes become one replacement per maximal subpart", "[utf8]") {
  const Sequences sequences;
  const uint32_t seed = 3;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const std::string bytes =
      "a\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF4\xF5\xFF";
  for (int round = 0; round < 30000; ++round) {
    std::string text(1 + random() % 8, ' ');
    for (char& byte : text) {
      byte = bytes[random() % bytes.size()];
    }
    const std::string expected = sequences.replaced(text);
    if (replace_invalid_utf8(text) != expected || is_valid_utf8(text) != (text == expected)) {
      CAPTURE(round);
      CHECK(replace_invalid_utf8(text) == expected);
      CHECK(is_valid_utf8(text) == (text == expected));
    }
  }
  CHECK(utf8_at("\xE4\xB8", 0).truncated);
  CHECK_FALSE(utf8_at("\xE4x", 0).truncated);
}

TEST_CASE("bytes have a printable alphabet", "[utf8]") {
  std::set<char32_t> characters;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t c = byte_to_char(static_cast<uint8_t>(byte));
    CHECK(characters.insert(c).second);
    CHECK(char_to_byte(c) == byte);
  }
  CHECK(byte_to_char(' ') == 0x120);
  CHECK(byte_to_char('\n') == 0x10A);
  CHECK(char_to_byte(' ') == -1);
  CHECK(char_to_byte(0x144) == -1);
  CHECK(vocabulary_string_of_bytes(" a\xFF") == "\u0120a\u00FF");
  CHECK(bytes_of_vocabulary_string("\u0120a\u00FF") == " a\xFF");
  CHECK_FALSE(bytes_of_vocabulary_string("\u4e2d").has_value());
}

}  // namespace
}  // namespace engram::engine

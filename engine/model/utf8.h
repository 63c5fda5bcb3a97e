// UTF-8, one code point at a time, and what to do with bytes that are not UTF-8.
//
// An ill-formed sequence is consumed by its maximal subpart (Unicode 15, section 3.9, "U+FFFD
// Substitution of Maximal Subparts"), which is what Python's errors="replace" and Rust's
// from_utf8_lossy do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace engram::engine {

inline constexpr char32_t kReplacement = 0xFFFD;

struct Utf8Char {
  char32_t code = kReplacement;  // kReplacement too when not valid
  uint8_t bytes = 0;             // length in the text, at least 1
  bool valid = false;
  bool truncated = false;  // not valid, but more bytes at the end of the text could make it so
};

// The code point at text[at]; `at` is below text.size().
Utf8Char utf8_at(std::string_view text, size_t at);

// Where the code point before `end` starts; text is valid UTF-8 and `end` above 0.
size_t utf8_previous(std::string_view text, size_t end);

// A Unicode scalar value, appended.
void append_utf8(char32_t code, std::string& text);

bool is_valid_utf8(std::string_view text);

// Every maximal subpart of an ill-formed sequence becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace engram::engine

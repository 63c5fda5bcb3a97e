// The printable characters that stand for bytes in a byte-level BPE vocabulary (GPT-2's table):
// a byte that is a printable Latin-1 character stands for itself, the 68 others are U+0100 on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace engram::engine {

char32_t byte_to_char(uint8_t byte);
// -1: no byte is written as this character.
int char_to_byte(char32_t code);

// "Ġthe" -> " the"; nothing if a character is outside the alphabet or the text is not UTF-8.
std::optional<std::string> bytes_of_vocabulary_string(std::string_view text);
// " the" -> "Ġthe".
std::string vocabulary_string_of_bytes(std::string_view bytes);

}  // namespace engram::engine

#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

// Length of the sequence a lead byte announces and the range its second byte must lie in; 0: not a
// lead byte (Unicode 15, table 3-7).
struct Lead {
  int length;
  uint8_t low;
  uint8_t high;
};

Lead lead_of(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) {
    return {2, 0x80, 0xBF};
  }
  if (byte >= 0xE0 && byte <= 0xEF) {
    const uint8_t low = byte == 0xE0 ? 0xA0 : 0x80;
    const uint8_t high = byte == 0xED ? 0x9F : 0xBF;
    return {3, low, high};
  }
  if (byte >= 0xF0 && byte <= 0xF4) {
    const uint8_t low = byte == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = byte == 0xF4 ? 0x8F : 0xBF;
    return {4, low, high};
  }
  return {0, 0, 0};
}

}  // namespace

Utf8Char utf8_at(std::string_view text, size_t at) {
  const uint8_t first = static_cast<uint8_t>(text[at]);
  if (first < 0x80) {
    return {first, 1, true, false};
  }
  const Lead lead = lead_of(first);
  if (lead.length == 0) {
    return {kReplacement, 1, false, false};
  }
  uint32_t code = first & (0x7Fu >> lead.length);
  for (int i = 1; i < lead.length; ++i) {
    if (at + static_cast<size_t>(i) == text.size()) {
      return {kReplacement, static_cast<uint8_t>(i), false, true};
    }
    const uint8_t byte = static_cast<uint8_t>(text[at + static_cast<size_t>(i)]);
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) {
      return {kReplacement, static_cast<uint8_t>(i), false, false};
    }
    code = code << 6 | (byte & 0x3Fu);
  }
  return {code, static_cast<uint8_t>(lead.length), true, false};
}

size_t utf8_previous(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) {
    --at;
  }
  return at;
}

void append_utf8(char32_t code, std::string& text) {
  const uint32_t c = code;
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += static_cast<char>(0xC0 | c >> 6);
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    text += static_cast<char>(0xE0 | c >> 12);
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | c >> 18);
    text += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    text += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    text += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (!c.valid) {
      return false;
    }
    at += c.bytes;
  }
  return true;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (c.valid) {
      out.append(text, at, c.bytes);
    } else {
      append_utf8(kReplacement, out);
    }
    at += c.bytes;
  }
  return out;
}

}  // namespace engram::engine

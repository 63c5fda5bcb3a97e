#include "engine/model/canonical_ids.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

// Stands for a lone space while the ends are stripped. One that was there before becomes a space.
constexpr std::string_view kSentinel = "\uE000";

std::string normalized(const icu::Normalizer2* normalizer, std::string_view text) {
  ENGRAM_CHECK(normalizer != nullptr);  // ICU without its data
  UErrorCode error = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  normalizer->normalizeUTF8(
      0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
  ENGRAM_CHECK(U_SUCCESS(error));
  return out;
}

std::string decomposed(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfkc = icu::Normalizer2::getNFKCInstance(error);
  const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(error);
  return normalized(nfd, normalized(nfkc, text));
}

// Marks dropped, lower case per character, runs of space, tab, CR and LF made one space.
std::string without_marks(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    at += c.bytes;
    const UChar32 code = static_cast<UChar32>(c.code);
    if ((U_GET_GC_MASK(code) & U_GC_M_MASK) != 0) {
      continue;
    }
    const bool space = code == ' ' || code == '\t' || code == '\r' || code == '\n';
    if (!space) {
      append_utf8(static_cast<char32_t>(u_tolower(code)), out);
    } else if (out.empty() || out.back() != ' ') {
      out += ' ';
    }
  }
  return out;
}

std::string_view stripped(std::string_view text) {
  while (!text.empty() && is_white_space(utf8_at(text, 0).code)) {
    text.remove_prefix(utf8_at(text, 0).bytes);
  }
  while (!text.empty()) {
    const size_t last = utf8_previous(text, text.size());
    if (!is_white_space(utf8_at(text, last).code)) {
      break;
    }
    text = text.substr(0, last);
  }
  return text;
}

}  // namespace

std::string canonical_text(std::string_view text) {
  std::string tidy = without_marks(decomposed(text));
  if (tidy == " ") {
    tidy = kSentinel;
  }
  const std::string_view rest = stripped(tidy);
  std::string key;
  size_t done = 0;
  for (size_t at = rest.find(kSentinel); at != std::string_view::npos;
       at = rest.find(kSentinel, done)) {
    key.append(rest, done, at - done).push_back(' ');
    done = at + kSentinel.size();
  }
  key.append(rest, done);
  return key.empty() ? std::string(text) : key;
}

CanonicalIds derive_canonical_ids(const Tokenizer& tokenizer) {
  CanonicalIds ids;
  std::unordered_map<std::string, int32_t> known;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string_view written = tokenizer.token_string(id);
    const std::string text = tokenizer.is_added(id)
                                 ? std::string(written)
                                 : replace_invalid_utf8(tokenizer.token_bytes(id));
    // Not whole characters: the vocabulary string itself is the key.
    const bool partial = text.find("\uFFFD") != std::string::npos;
    std::string key = partial ? std::string(written) : canonical_text(text);
    ids.map.push_back(
        known.emplace(std::move(key), static_cast<int32_t>(known.size())).first->second);
  }
  ids.count = static_cast<int64_t>(known.size());
  return ids;
}

std::string unicode_version() {
  UVersionInfo version;
  u_getUnicodeVersion(version);
  return std::to_string(version[0]) + "." + std::to_string(version[1]);
}

}  // namespace engram::engine

#include "engine/model/added_tokens.h"

#include <unicode/uchar.h>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

// \w of Rust's regex crate (UTS 18): letters, marks, decimal digits, connectors, joiners.
bool is_word(char32_t code) {
  const UChar32 c = static_cast<UChar32>(code);
  const int32_t category = U_GET_GC_MASK(c);
  return u_isUAlphabetic(c) || (category & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

bool word_before(std::string_view text, size_t at) {
  return at > 0 && is_word(utf8_at(text, utf8_previous(text, at)).code);
}

bool word_behind(std::string_view text, size_t at) {
  return at < text.size() && is_word(utf8_at(text, at).code);
}

}  // namespace

void AddedTokens::add(std::string_view text, const AddedTokenSpec& token) {
  if (text.empty()) {
    return;
  }
  starts_[static_cast<uint8_t>(text[0])] = true;
  uint32_t node = 0;
  for (const char c : text) {
    const auto [next, inserted] =
        nodes_[node].next.try_emplace(c, static_cast<uint32_t>(nodes_.size()));
    node = next->second;
    if (inserted) {
      nodes_.emplace_back();
    }
  }
  if (nodes_[node].token < 0) {
    nodes_[node].token = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
  }
}

size_t AddedTokens::longest_at(std::string_view text, size_t at, size_t& token) const {
  size_t longest = 0;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto next = nodes_[node].next.find(text[i]);
    if (next == nodes_[node].next.end()) {
      break;
    }
    node = next->second;
    if (nodes_[node].token >= 0) {
      longest = i + 1 - at;
      token = static_cast<size_t>(nodes_[node].token);
    }
  }
  return longest;
}

std::vector<AddedTokens::Piece> AddedTokens::split(std::string_view text) const {
  std::vector<Piece> pieces;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    size_t index = 0;
    const size_t length = starts_[static_cast<uint8_t>(text[at])] ? longest_at(text, at, index) : 0;
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedTokenSpec& token = tokens_[index];
    size_t begin = at;
    size_t end = at + length;
    at = end;
    if (token.single_word && (word_before(text, begin) || word_behind(text, end))) {
      continue;
    }
    while (token.lstrip && begin > done &&
           is_white_space(utf8_at(text, utf8_previous(text, begin)).code)) {
      begin = utf8_previous(text, begin);
    }
    while (token.rstrip && end < text.size() && is_white_space(utf8_at(text, end).code)) {
      end += utf8_at(text, end).bytes;
    }
    if (begin > done) {
      pieces.push_back({text.substr(done, begin - done), -1});
    }
    pieces.push_back({text.substr(begin, end - begin), token.id});
    done = end;  // even if the token before had swallowed more: HF takes that text again
  }
  if (done < text.size()) {
    pieces.push_back({text.substr(done), -1});
  }
  return pieces;
}

}  // namespace engram::engine

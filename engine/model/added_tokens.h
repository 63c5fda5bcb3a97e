// Finds the added tokens written out in a text: leftmost, the longest of several, as `tokenizers`
// does. Immutable, many threads.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/model/tokenizer_spec.h"

namespace engram::engine {

class AddedTokens {
 public:
  struct Piece {
    std::string_view text;
    int32_t id;  // -1: text between tokens
  };

  // Of equal texts the first counts. An empty text is ignored.
  void add(std::string_view text, const AddedTokenSpec& token);
  bool empty() const { return tokens_.empty(); }
  // The text in its order, cut at the tokens found, white space they swallow left out.
  std::vector<Piece> split(std::string_view text) const;

 private:
  struct Node {
    std::unordered_map<char, uint32_t> next;
    int32_t token = -1;  // index into tokens_
  };
  // Length of the longest token at text[at] and its index; 0 for none.
  size_t longest_at(std::string_view text, size_t at, size_t& token) const;

  std::vector<Node> nodes_{1};
  std::array<bool, 256> starts_{};
  std::vector<AddedTokenSpec> tokens_;
};

}  // namespace engram::engine

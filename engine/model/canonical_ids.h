// Raw token ids to canonical ids, the ids that are hashed: tokens that look alike (case, accents,
// width, white space) share one. Derived from the tokenizer with ICU's Unicode tables; a checkpoint
// that stores its own map is taken at its word.
// Source: Engram paper (arXiv 2601.07372), tokenizer compression.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/tokenizer.h"

namespace engram::engine {

struct CanonicalIds {
  std::vector<int32_t> map;  // [tokenizer.size()], numbered 0, 1, 2, ... as they first appear
  int64_t count = 0;         // distinct ones
};

CanonicalIds derive_canonical_ids(const Tokenizer& tokenizer);

// What tokens that look alike have in common: compatibility form, no marks, lower case, tidy white
// space; the text itself if nothing of it is left. text is valid UTF-8.
std::string canonical_text(std::string_view text);

// Of ICU's tables: "15.0".
std::string unicode_version();

}  // namespace engram::engine

// The regular expressions of tokenizer.json, read as Oniguruma reads them and written as RE2.
//
// Understood: literals, escapes, classes (nested, negated, with &&), \s \S \d \D \h \H, \p{general
// category}, groups, (?i:ASCII only), alternation, greedy and lazy repetition, `$`, and one
// lookaround: the alternative \s+(?!\S) at the top level, which RE2 cannot express and which is
// therefore taken out. Everything else is UNIMPLEMENTED, naming the pattern.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "memory/base/status.h"

namespace engram::engine {

// What SplitPattern searches with; the strings are RE2 patterns.
struct SplitSyntax {
  // The whole expression, with \s+ in the place of \s+(?!\S).
  std::string whole;
  // Whether \s+(?!\S) was there, and the alternatives before and after it ("" for none).
  bool trims_white_space = false;
  std::optional<std::string> before;
  std::optional<std::string> after;
};

memory::Result<SplitSyntax> parse_split_syntax(std::string_view pattern);

// The same for a text that stands for itself.
SplitSyntax literal_split_syntax(std::string_view text);

}  // namespace engram::engine

// Finds the matches of a split pattern in a text, as Oniguruma's find_iter does: leftmost,
// alternatives in their order, not overlapping. Immutable, many threads. Time is linear in the
// text for the patterns of published tokenizers: RE2 never backtracks.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/split_syntax.h"
#include "memory/base/status.h"

namespace re2 {
class RE2;
}

namespace engram::engine {

struct Span {
  size_t begin;
  size_t end;
};

class SplitPattern {
 public:
  // A regular expression; UNIMPLEMENTED for what split_syntax.h does not know.
  static memory::Result<SplitPattern> compile(std::string_view pattern);
  // A text that stands for itself.
  static memory::Result<SplitPattern> literal(std::string_view text);

  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

  // All matches in valid UTF-8, in order; empty ones too, but none directly behind another match.
  std::vector<Span> find_all(std::string_view text) const;

 private:
  SplitPattern() = default;
  static memory::Result<SplitPattern> from_syntax(
      const SplitSyntax& syntax, const std::string& shown);
  std::optional<Span> search(std::string_view text, size_t from) const;

  std::unique_ptr<re2::RE2> whole_;
  std::unique_ptr<re2::RE2> before_;  // alternatives before \s+(?!\S); null for none
  std::unique_ptr<re2::RE2> after_;   // alternatives after it; null for none
  bool trims_white_space_ = false;
};

}  // namespace engram::engine

// Sets of Unicode code points: what a character class of a split pattern means.
//
// General categories are those of Unicode 16.0 as the `tokenizers` package's regex engine
// (Oniguruma) has them, from a table of our own, so that text is cut at the same places whatever
// ICU is installed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace engram::engine {

class CodePoints {
 public:
  struct Range {
    char32_t first;
    char32_t last;
  };

  CodePoints() = default;
  CodePoints(char32_t first, char32_t last) : ranges_{{first, last}} {}

  // "L", "Lu", "P", ... and \p{...}'s long spellings of the major ones ("Letter"); nothing for a
  // name that is not a general category.
  static std::optional<CodePoints> of_category(std::string_view name);
  // White_Space, which is \s: 25 code points.
  static CodePoints white_space();
  // All Unicode scalar values.
  static CodePoints all();

  void add(const CodePoints& other);
  CodePoints intersection(const CodePoints& other) const;
  CodePoints complement() const;  // within all()
  bool contains(char32_t code) const;
  bool operator==(const CodePoints& other) const;

  // Sorted, disjoint, not adjacent.
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

// General category N: what Rust's char::is_numeric says.
bool is_number(char32_t code);
bool is_white_space(char32_t code);

}  // namespace engram::engine

#include "engine/model/split_syntax.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

constexpr int kMaxDepth = 32;
constexpr size_t kMaxPatternBytes = 16384;

std::string hex(char32_t code) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  uint32_t rest = code;
  do {
    text.insert(text.begin(), kDigits[rest % 16]);
    rest /= 16;
  } while (rest > 0);
  return std::string("\\x{").append(text).append("}");
}

std::string class_of(const CodePoints& set) {
  if (set.ranges().empty()) {
    return "[^\\x{0}-\\x{10ffff}]";
  }
  std::string text = "[";
  for (const CodePoints::Range& range : set.ranges()) {
    text += hex(range.first);
    if (range.last != range.first) {
      text.append("-").append(hex(range.last));
    }
  }
  return text + "]";
}

// Oniguruma's folding of an ASCII letter in (?i:...): its other case and the one code point beyond
// ASCII that folds to it, if there is one.
CodePoints folded(char32_t code) {
  CodePoints set(code, code);
  const char32_t lower = code | 0x20;
  if (lower >= 'a' && lower <= 'z') {
    set.add(CodePoints(lower, lower));
    set.add(CodePoints(lower - 0x20, lower - 0x20));
  }
  if (lower == 'k') {
    set.add(CodePoints(0x212A, 0x212A));  // KELVIN SIGN
  }
  if (lower == 's') {
    set.add(CodePoints(0x17F, 0x17F));  // LATIN SMALL LETTER LONG S
  }
  return set;
}

// Two letters that together are the folding of one code point (U+00DF, U+FB00 ... U+FB06).
bool folds_to_one(char32_t a, char32_t b) {
  const char32_t x = a | 0x20;
  const char32_t y = b | 0x20;
  return (x == 's' && (y == 's' || y == 't')) || (x == 'f' && (y == 'f' || y == 'i' || y == 'l'));
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  memory::Result<SplitSyntax> parse() {
    if (pattern_.size() > kMaxPatternBytes) {
      return memory::unimplemented(
          "split pattern of " + std::to_string(pattern_.size()) + " bytes, at most " +
          std::to_string(kMaxPatternBytes) + " are supported");
    }
    if (!is_valid_utf8(pattern_)) {
      return fail("is not UTF-8");
    }
    SplitSyntax syntax;
    std::vector<std::string> alternatives;
    std::optional<size_t> trimming;
    do {
      if (take_trimming()) {
        if (trimming.has_value()) {
          return fail("has \\s+(?!\\S) twice");
        }
        trimming = alternatives.size();
        alternatives.push_back(class_of(CodePoints::white_space()) + "+");
        continue;
      }
      std::string alternative;
      ENGRAM_RETURN_IF_ERROR(sequence(false, 0, alternative));
      alternatives.push_back(alternative);
    } while (take("|"));
    if (!at_end()) {
      return fail("has an unmatched )");
    }
    syntax.whole = join(alternatives, 0, alternatives.size());
    if (trimming.has_value()) {
      syntax.trims_white_space = true;
      if (*trimming > 0) {
        syntax.before = join(alternatives, 0, *trimming);
      }
      if (*trimming + 1 < alternatives.size()) {
        syntax.after = join(alternatives, *trimming + 1, alternatives.size());
      }
    }
    return syntax;
  }

 private:
  memory::Status fail(const std::string& what) const {
    return memory::unimplemented("split pattern \"" + std::string(pattern_) + "\" " + what);
  }

  bool at_end() const { return at_ == pattern_.size(); }
  char peek() const { return pattern_[at_]; }
  bool take(std::string_view text) {
    if (pattern_.substr(at_, text.size()) != text) {
      return false;
    }
    at_ += text.size();
    return true;
  }
  // The alternative \s+(?!\S), whole.
  bool take_trimming() {
    constexpr std::string_view kTrimming = "\\s+(?!\\S)";
    const std::string_view rest = pattern_.substr(at_);
    const bool here =
        rest == kTrimming || rest.substr(0, kTrimming.size() + 1) == std::string(kTrimming) + "|";
    return here && take(kTrimming);
  }
  char32_t next_code() {
    const Utf8Char c = utf8_at(pattern_, at_);
    at_ += c.bytes;
    return c.code;
  }

  static std::string join(const std::vector<std::string>& parts, size_t first, size_t end) {
    std::string text;
    for (size_t i = first; i < end; ++i) {
      text.append(i > first ? "|" : "").append(parts[i]);
    }
    return text;
  }

  // alternation := sequence ("|" sequence)*, up to the closing parenthesis or the end.
  memory::Status alternation(bool fold, int depth, std::string& out) {
    if (depth > kMaxDepth) {
      return fail("is nested too deeply");
    }
    do {
      std::string part;
      ENGRAM_RETURN_IF_ERROR(sequence(fold, depth, part));
      out.append(out.empty() ? "" : "|").append(part.empty() ? "(?:)" : part);
    } while (take("|"));
    return {};
  }

  memory::Status sequence(bool fold, int depth, std::string& out) {
    char32_t previous_literal = 0;
    while (!at_end() && peek() != '|' && peek() != ')') {
      std::string atom;
      char32_t literal = 0;
      ENGRAM_RETURN_IF_ERROR(read_atom(fold, depth, atom, literal));
      if (fold && literal != 0 && folds_to_one(previous_literal, literal)) {
        return fail("has a case-insensitive pair of letters that one code point folds to");
      }
      previous_literal = literal;
      const size_t atom_end = at_;
      ENGRAM_RETURN_IF_ERROR(read_repetition(atom));
      previous_literal = at_ == atom_end ? previous_literal : 0;
      out += atom;
    }
    return {};
  }

  // One unit to which a repetition may apply; `literal` is its code point if it is a single one.
  memory::Status read_atom(bool fold, int depth, std::string& out, char32_t& literal) {
    const char c = peek();
    if (c == '(') {
      return read_group(fold, depth, out);
    }
    if (c == '[') {
      ++at_;
      CodePoints set;
      ENGRAM_RETURN_IF_ERROR(read_class(0, set));
      return emit_set(fold, set, out);
    }
    if (take("$")) {
      out = "(?m:$)";
      return {};
    }
    if (take(".")) {
      return emit_set(fold, CodePoints('\n', '\n').complement(), out);
    }
    if (c == '^' || c == '*' || c == '+' || c == '?') {
      return fail(std::string("has a ") + c + " that is not supported there");
    }
    CodePoints set;
    bool single = false;
    ENGRAM_RETURN_IF_ERROR(read_member(set, single));
    literal = single ? set.ranges()[0].first : 0;
    return emit_set(fold, set, out);
  }

  memory::Status emit_set(bool fold, const CodePoints& set, std::string& out) const {
    CodePoints members = set;
    for (size_t i = 0; fold && i < set.ranges().size(); ++i) {
      const CodePoints::Range& range = set.ranges()[i];
      if (range.last >= 0x80) {
        return fail("has a case-insensitive part that is not ASCII");
      }
      for (char32_t c = range.first; c <= range.last; ++c) {
        members.add(folded(c));
      }
    }
    out = class_of(members);
    return {};
  }

  memory::Status read_group(bool fold, int depth, std::string& out) {
    ++at_;
    if (take("?i:")) {
      fold = true;
    } else if (!at_end() && peek() == '?' && !take("?:")) {
      return fail(
          "has a group or lookaround that is not supported: (" +
          std::string(pattern_.substr(at_, 3)) + "...");
    } else if (!at_end() && peek() == '*') {
      return fail("has a (*...) group");
    }
    std::string inside;
    ENGRAM_RETURN_IF_ERROR(alternation(fold, depth + 1, inside));
    if (!take(")")) {
      return fail("has a ( without )");
    }
    out = std::string("(?:").append(inside).append(")");
    return {};
  }

  memory::Status read_repetition(std::string& atom) {
    std::string repetition;
    bool counted = false;
    if (take("*")) {
      repetition = "*";
    } else if (take("+")) {
      repetition = "+";
    } else if (take("?")) {
      repetition = "?";
    } else if (!at_end() && peek() == '{') {
      ENGRAM_RETURN_IF_ERROR(read_counts(repetition));
      counted = true;
    }
    if (repetition.empty()) {
      return {};
    }
    if (!counted && take("?")) {
      repetition += "?";
    }
    if (!at_end() && std::string_view("*+?{").find(peek()) != std::string_view::npos) {
      return fail("has a possessive or repeated repetition");
    }
    atom = std::string("(?:").append(atom).append(")").append(repetition);
    return {};
  }

  // "{2}", "{1,3}", "{2,}", "{,3}"
  memory::Status read_counts(std::string& out) {
    ++at_;
    std::string low = digits();
    const bool ranged = take(",");
    const std::string high = ranged ? digits() : "";
    if (!take("}") || (low.empty() && high.empty()) || low.size() > 3 || high.size() > 3) {
      return fail("has a { that is not a repetition of at most 999");
    }
    low = low.empty() ? "0" : low;
    if (!high.empty() && std::stoi(high) < std::stoi(low)) {
      return fail("has a repetition with its bounds reversed");
    }
    out = std::string("{").append(low).append(ranged ? "," : "").append(high).append("}");
    return {};
  }

  std::string digits() {
    std::string text;
    while (!at_end() && peek() >= '0' && peek() <= '9') {
      text += pattern_[at_++];
    }
    return text;
  }

  // After "[": members up to "]", with ^ and &&.
  memory::Status read_class(int depth, CodePoints& out) {
    if (depth > kMaxDepth) {
      return fail("is nested too deeply");
    }
    const bool negated = take("^");
    std::optional<CodePoints> left;
    CodePoints set;
    bool first = true;
    while (first || !take("]")) {
      if (at_end()) {
        return fail("has a [ without ]");
      }
      if (take("&&")) {
        left = left.has_value() ? left->intersection(set) : set;
        set = CodePoints();
      } else if (pattern_.substr(at_, 2) == "[:") {
        return fail("has a POSIX bracket");
      } else if (take("[")) {
        CodePoints inner;
        ENGRAM_RETURN_IF_ERROR(read_class(depth + 1, inner));
        set.add(inner);
      } else {
        ENGRAM_RETURN_IF_ERROR(read_range(set));
      }
      first = false;
    }
    set = left.has_value() ? left->intersection(set) : set;
    out = negated ? set.complement() : set;
    return {};
  }

  // One member of a class, or two with a dash between.
  memory::Status read_range(CodePoints& set) {
    CodePoints low;
    bool single = false;
    ENGRAM_RETURN_IF_ERROR(read_member(low, single));
    const bool dash = pattern_.substr(at_, 1) == "-" && pattern_.substr(at_, 2) != "-]" &&
                      pattern_.substr(at_, 2) != "-[" && pattern_.substr(at_, 3) != "-&&";
    if (!single || !dash) {
      set.add(low);
      return {};
    }
    ++at_;
    if (at_end()) {
      return fail("has a [ without ]");
    }
    CodePoints high;
    ENGRAM_RETURN_IF_ERROR(read_member(high, single));
    const char32_t first = low.ranges()[0].first;
    if (!single || high.ranges()[0].first < first) {
      return fail("has a class with a range that is none");
    }
    set.add(CodePoints(first, high.ranges()[0].first));
    return {};
  }

  // A literal or an escape; single: exactly one code point.
  memory::Status read_member(CodePoints& out, bool& single) {
    single = true;
    const char32_t code = next_code();
    if (code != '\\') {
      out = CodePoints(code, code);
      return {};
    }
    if (at_end()) {
      return fail("ends in a backslash");
    }
    return read_escape(out, single);
  }

  memory::Status read_escape(CodePoints& out, bool& single) {
    const char32_t code = next_code();
    constexpr std::string_view kNames = "nrtfvae";
    constexpr std::string_view kValues = "\n\r\t\f\v\a\x1b";
    if (code < 0x80 && kNames.find(static_cast<char>(code)) != std::string_view::npos) {
      const char value = kValues[kNames.find(static_cast<char>(code))];
      out = CodePoints(static_cast<char32_t>(value), static_cast<char32_t>(value));
      return {};
    }
    if (code == 'x' || code == 'u') {
      return read_number(code == 'u', out);
    }
    const bool letter = (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
    const bool digit = code >= '0' && code <= '9';
    if (!letter && !digit) {
      out = CodePoints(code, code);
      return {};
    }
    single = false;
    const bool upper = code == 'S' || code == 'D' || code == 'H' || code == 'P';
    if (code == 's' || code == 'S') {
      out = CodePoints::white_space();
    } else if (code == 'd' || code == 'D') {
      out = *CodePoints::of_category("Nd");
    } else if (code == 'h' || code == 'H') {
      out = CodePoints('0', '9');
      out.add(CodePoints('a', 'f'));
      out.add(CodePoints('A', 'F'));
    } else if (code == 'p' || code == 'P') {
      ENGRAM_RETURN_IF_ERROR(read_property(out));
    } else {
      return fail(std::string("has \\") + static_cast<char>(code) + ", which is not supported");
    }
    out = upper ? out.complement() : out;
    return {};
  }

  // \p{Lu} or \p{^Lu}, after the p.
  memory::Status read_property(CodePoints& out) {
    const size_t close = pattern_.find('}', at_);
    if (!take("{") || close == std::string_view::npos) {
      return fail("has a \\p without {name}");
    }
    const bool negated = take("^");
    const std::string_view name = pattern_.substr(at_, close - at_);
    const std::optional<CodePoints> set = CodePoints::of_category(name);
    if (!set.has_value()) {
      return fail("has \\p{" + std::string(name) + "}, which is not a general category");
    }
    at_ = close + 1;
    out = negated ? set->complement() : *set;
    return {};
  }

  // \x41 (below 0x80), \x{4e00}, \u4e00, after the letter.
  memory::Status read_number(bool four_digits, CodePoints& out) {
    const bool braces = !four_digits && take("{");
    const size_t most = four_digits ? 4 : braces ? 6 : 2;
    uint32_t code = 0;
    size_t count = 0;
    while (!at_end() && count < most) {
      const std::string_view kDigits = "0123456789abcdef";
      const char c = peek() >= 'A' && peek() <= 'F' ? static_cast<char>(peek() | 0x20) : peek();
      const size_t value = kDigits.find(c);
      if (value == std::string_view::npos) {
        break;
      }
      code = code * 16 + static_cast<uint32_t>(value);
      ++count;
      ++at_;
    }
    const bool complete = braces ? count > 0 && take("}") : count == most;
    const bool scalar = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    if (!complete || !scalar || (most == 2 && code >= 0x80)) {
      return fail("has a number that is not a code point");
    }
    out = CodePoints(code, code);
    return {};
  }

  std::string_view pattern_;
  size_t at_ = 0;
};

}  // namespace

memory::Result<SplitSyntax> parse_split_syntax(std::string_view pattern) {
  return Parser(pattern).parse();
}

SplitSyntax literal_split_syntax(std::string_view text) {
  SplitSyntax syntax;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    syntax.whole += hex(c.code);
    at += c.bytes;
  }
  return syntax;
}

}  // namespace engram::engine

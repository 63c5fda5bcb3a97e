#include "engine/model/split_pattern.h"

#include <catch2/catch.hpp>
#include <random>
#include <regex>
#include <string>
#include <vector>

#include "engine/model/code_points.h"

namespace engram::engine {
namespace {

SplitPattern compile(const std::string& pattern) {
  memory::Result<SplitPattern> split = SplitPattern::compile(pattern);
  INFO(split.status().message());
  REQUIRE(split.ok());
  return std::move(split).value();
}

std::vector<std::string> words(const SplitPattern& pattern, const std::string& text) {
  std::vector<std::string> found;
  for (const Span& span : pattern.find_all(text)) {
    found.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return found;
}

// A backtracking engine as the oracle, on patterns without an empty match.
TEST_CASE("matches are those of a backtracking engine", "[split]") {
  const uint32_t seed = 17;
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (const std::string pattern :
       {"'s|'t|'re|[^\\r\\n\\w]?[a-z]+|\\d{1,3}| "
        "?[^\\s\\w]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "\\s+(?!\\S)", "\\s+(?!\\S)|\\s+", "\\s+(?!\\S)|x", "[a-z]+|\\s+(?!\\S)",
        "\\n|\\s+(?!\\S)| a", "ab|a|b+?", "(?:a|ab)(?:c|bcd)(?:d*)x", "[a-d]*[c-z]+"}) {
    // What std::regex does not know is written out; it is ASCII on both sides.
    std::string ours = pattern;
    for (size_t at = ours.find("\\w"); at != std::string::npos; at = ours.find("\\w")) {
      ours.replace(at, 2, "A-Za-z0-9_");
    }
    const SplitPattern split = compile(ours);
    const std::regex oracle(pattern);
    for (int round = 0; round < 4000; ++round) {
      std::string text(random() % 14, ' ');
      for (char& c : text) {
        c = "  \n\r\tabcdx1'st."[random() % 15];
      }
      std::vector<std::string> expected;
      for (std::sregex_iterator i(text.begin(), text.end(), oracle), end; i != end; ++i) {
        expected.push_back(i->str());
      }
      if (words(split, text) != expected) {
        CAPTURE(pattern, text);
        CHECK(words(split, text) == expected);
      }
    }
  }
}

TEST_CASE("case is ignored as Oniguruma does", "[split]") {
  const SplitPattern split = compile("(?i:'s|'k)");
  CHECK(
      words(split, "'s'S'\u017F'k'K'\u212A'\u00DF") ==
      std::vector<std::string>{"'s", "'S", "'\u017F", "'k", "'K", "'\u212A"});
}

TEST_CASE("case is ignored in classes too", "[split]") {
  const SplitPattern split = compile("'(?i:[sdmt]|ll|ve|re)");
  CHECK(
      words(split, "'S'd'\u017F'LL'Ve'x'rE'l") ==
      std::vector<std::string>{"'S", "'d", "'\u017F", "'LL", "'Ve", "'rE"});
}

TEST_CASE("empty matches do not stand behind another match", "[split]") {
  const SplitPattern split = compile("x*");
  std::vector<std::pair<size_t, size_t>> found;
  for (const Span& span : split.find_all("axxb\u00e9")) {
    found.emplace_back(span.begin, span.end);
  }
  const std::vector<std::pair<size_t, size_t>> expected = {{0, 0}, {1, 3}, {4, 4}, {6, 6}};
  CHECK(found == expected);
}

TEST_CASE("a literal stands for itself", "[split]") {
  memory::Result<SplitPattern> split = SplitPattern::literal("a.[\u00e9");
  REQUIRE(split.ok());
  CHECK(
      words(split.value(), "axx a.[\u00e9a.[\u00e9 A.[\u00e9") ==
      std::vector<std::string>{"a.[\u00e9", "a.[\u00e9"});
}

TEST_CASE("classes are sets", "[split]") {
  // Sizes counted with the package that the table comes from.
  const auto size_of = [](const CodePoints& set) {
    int64_t size = 0;
    for (const CodePoints::Range& range : set.ranges()) {
      size += range.last - range.first + 1;
    }
    return size;
  };
  for (const auto& [name, size] : std::vector<std::pair<std::string, int64_t>>{
           {"L", 141028},
           {"N", 1911},
           {"P", 855},
           {"S", 8514},
           {"M", 2501},
           {"Lu", 1858},
           {"Nd", 760},
           {"Letter", 141028}}) {
    CAPTURE(name);
    CHECK(size_of(*CodePoints::of_category(name)) == size);
  }
  CHECK_FALSE(CodePoints::of_category("Han").has_value());
  CHECK_FALSE(CodePoints::of_category("").has_value());
  CHECK(size_of(CodePoints::white_space()) == 25);
  const CodePoints letters = *CodePoints::of_category("L");
  CHECK(letters.complement().complement() == letters);
  CHECK(letters.intersection(letters.complement()).ranges().empty());
  CodePoints everything = letters;
  everything.add(letters.complement());
  CHECK(everything == CodePoints::all());
  CHECK(letters.contains('a'));
  CHECK_FALSE(letters.contains('1'));
  CHECK(is_number(0xBD));
  CHECK_FALSE(is_number('a'));
  CHECK(is_white_space(0x3000));
  CHECK_FALSE(is_white_space(0x200B));
}

}  // namespace
}  // namespace engram::engine

// Ids and texts equal to those of the `tokenizers` package, for tokenizers of every published kind
// and for all options; tests/golden/make_tokenizer_golden.py describes the files.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/tokenizer.h"
#include "engine/model/utf8.h"
#include "tests/support/golden_text.h"

namespace engram::engine {
namespace {

using nlohmann::json;
using tests::hash_of;
using tests::read_lines;
using tests::read_text;

const std::string kDirectory = "tests/golden/tokenizer/";

std::string summary_of(const std::vector<int32_t>& ids) {
  return std::to_string(ids.size()) + " " + hash_of(ids);
}

std::vector<std::string> read_cases() {
  std::vector<std::string> cases = read_lines(kDirectory + "cases.hex");
  for (std::string& text : cases) {
    std::string bytes;
    for (size_t i = 0; i < text.size(); i += 2) {
      bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
    }
    text = bytes;
  }
  return cases;
}

// The generator's random numbers.
class Lcg {
 public:
  explicit Lcg(uint64_t seed) : x_(seed) {}
  uint32_t next(uint32_t bound) {
    x_ = x_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((x_ >> 33) % bound);
  }

 private:
  uint64_t x_;
};

std::string repeat(int count, const std::function<char32_t()>& next) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    append_utf8(next(), text);
  }
  return text;
}

std::string every_code_point(bool apart) {
  std::string text;
  for (char32_t c = 0; c <= 0x10FFFF; c = c == 0xD7FF ? 0xE000 : c + 1) {
    append_utf8(c, text);
    text += !apart ? "" : c % 2 == 1 ? "a" : " ";
  }
  return text;
}

std::string large_words(Lcg& lcg) {
  std::string text;
  for (int i = 0; i < 150000; ++i) {
    const uint32_t length = 1 + lcg.next(9);
    for (uint32_t j = 0; j < length; ++j) {
      text += "etaoinshrdlu"[lcg.next(12)];
    }
    text += lcg.next(12) == 0 ? ". " : " ";
  }
  return text;
}

// Python evaluates the condition of a conditional expression first; so must this.
char32_t next_mark(Lcg& lcg) {
  const bool mark = lcg.next(3) != 0;
  return mark ? 0x300 + lcg.next(0x70) : 0x61 + lcg.next(26);
}

std::string random_bytes(Lcg& lcg) {
  std::string text;
  for (int i = 0; i < 300000; ++i) {
    text += static_cast<char>(lcg.next(256));
  }
  return text;
}

std::string large_input(const std::string& kind) {
  const std::vector<std::pair<std::string, std::function<std::string(Lcg&)>>> kinds = {
      {"spaces", [](Lcg&) { return std::string(1000000, ' '); }},
      {"letters", [](Lcg&) { return std::string(1000000, 'a'); }},
      {"cjk", [](Lcg& lcg) { return repeat(350000, [&] { return 0x4E00 + lcg.next(20000); }); }},
      {"digits", [](Lcg& lcg) { return repeat(300000, [&] { return 0x30 + lcg.next(10); }); }},
      {"newlines",
       [](Lcg& lcg) {
         return repeat(300000, [&] { return static_cast<char32_t>("\n\r \t"[lcg.next(4)]); });
       }},
      {"every-code-point", [](Lcg&) { return every_code_point(false); }},
      {"every-code-point-apart", [](Lcg&) { return every_code_point(true); }},
      {"random-bytes", random_bytes},
      {"words", large_words},
      {"marks", [](Lcg& lcg) { return repeat(200000, [&] { return next_mark(lcg); }); }},
      {"mixed-spaces",
       [](Lcg& lcg) { return repeat(300000, [&] { return U"  \u00a0\u3000x"[lcg.next(5)]; }); }},
  };
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i].first == kind) {
      Lcg lcg(i + 1);
      return kinds[i].second(lcg);
    }
  }
  FAIL("no large input " + kind);
  return "";
}

std::vector<int32_t> random_ids(uint64_t index, int64_t size) {
  Lcg lcg(1000 + index);
  const uint32_t count = 1 + lcg.next(40);
  std::vector<int32_t> ids;
  for (uint32_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(lcg.next(static_cast<uint32_t>(size))));
  }
  return ids;
}

std::unique_ptr<Tokenizer> parse(const std::string& text) {
  memory::Result<std::unique_ptr<Tokenizer>> tokenizer = parse_tokenizer(text, "");
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  return std::move(tokenizer).value();
}

void check_golden(const std::string& name, const Tokenizer& tokenizer) {
  CAPTURE(name);
  const std::vector<std::string> cases = read_cases();
  const std::vector<std::string> lines = read_lines(kDirectory + name + ".golden");
  REQUIRE(lines.size() > cases.size() + 1);
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::vector<int32_t> ids = tokenizer.encode(cases[i], false);
    std::string found = summary_of(ids);
    if (std::count(lines[i].begin(), lines[i].end(), ' ') > 1) {
      for (const int32_t id : ids) {
        found.append(" ").append(std::to_string(id));
      }
    }
    CAPTURE(i, cases[i]);
    CHECK(found == lines[i]);
  }
  size_t line = cases.size();
  REQUIRE(lines[line++] == "large");
  for (; lines[line] != "decode"; ++line) {
    const std::string kind = lines[line].substr(0, lines[line].find(' '));
    CHECK(kind + " " + summary_of(tokenizer.encode(large_input(kind), false)) == lines[line]);
  }
  ++line;
  for (uint64_t i = 0; line < lines.size(); ++i, ++line) {
    const std::vector<int32_t> ids = random_ids(i, tokenizer.size());
    CAPTURE(i);
    CHECK(
        hash_of(tokenizer.decode(ids, false)) + " " + hash_of(tokenizer.decode(ids, true)) ==
        lines[line]);
  }
}

TEST_CASE("published kinds of tokenizers encode and decode as HF does", "[tokenizer]") {
  for (const std::string name :
       {"gpt2", "llama3", "qwen", "deepseek3", "o200k", "checkpoint", "demo"}) {
    const std::string file =
        name == "demo" ? "configs/demo/tokenizer.json" : kDirectory + name + ".json";
    check_golden(name, *parse(read_text(file)));
  }
}

TEST_CASE("every component and option encodes and decodes as HF has it", "[tokenizer]") {
  for (const json& variant : json::parse(read_text(kDirectory + "variants.json"))) {
    json value = json::parse(read_text(kDirectory + variant["base"].get<std::string>() + ".json"));
    value.merge_patch(variant["patch"]);
    check_golden(variant["name"], *parse(value.dump()));
  }
}

}  // namespace
}  // namespace engram::engine

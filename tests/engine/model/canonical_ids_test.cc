#include "engine/model/canonical_ids.h"

#include <unicode/uchar.h>

#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "engine/model/utf8.h"
#include "memory/io/safetensors.h"
#include "tests/support/golden_text.h"

namespace engram::engine {
namespace {

const std::string kGoldens = "tests/golden/tokenizer/";

CanonicalIds derive(const std::string& tokenizer_json) {
  const memory::Result<std::unique_ptr<Tokenizer>> tokenizer = parse_tokenizer(tokenizer_json, "");
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  return derive_canonical_ids(*tokenizer.value());
}

TEST_CASE("the derived map of the demo model is the stored one", "[canonical]") {
  const memory::Result<memory::TensorFiles> files = memory::TensorFiles::open("configs/demo");
  REQUIRE(files.ok());
  const memory::TensorInfo* stored = files.value().find("model.engram_token_map");
  REQUIRE(stored != nullptr);
  std::vector<int32_t> map(static_cast<size_t>(stored->bytes) / sizeof(int32_t));
  REQUIRE(files.value().read(*stored, 0, stored->bytes, map.data()).ok());
  const CanonicalIds derived = derive(tests::read_text("configs/demo/tokenizer.json"));
  CHECK(derived.map == map);
  CHECK(derived.count == 5258);  // engram_compressed_vocab_size of its config.json
}

TEST_CASE("maps are those of the reference", "[canonical]") {
  for (const std::string& line : tests::read_lines(kGoldens + "canonical.txt")) {
    std::istringstream words(line);
    std::string name;
    int64_t count = 0;
    std::string hash;
    words >> name >> count >> hash;
    CAPTURE(name);
    if (name != "code-points") {
      const CanonicalIds derived = derive(tests::read_text(kGoldens + name + ".json"));
      CHECK(derived.count == count);
      CHECK(tests::hash_of(derived.map) == hash);
    }
  }
}

TEST_CASE("every character of Unicode 14 has the reference's canonical text", "[canonical]") {
  std::string texts;
  int64_t known = 0;
  for (UChar32 c = 0; c <= 0x10FFFF; ++c) {
    UVersionInfo age;
    u_charAge(c, age);
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    if (surrogate || age[0] > 14 || u_charType(c) == U_UNASSIGNED) {
      continue;
    }
    ++known;
    std::string text;
    append_utf8(static_cast<char32_t>(c), text);
    texts += canonical_text(text) + "\n";
  }
  const std::string found = "code-points " + std::to_string(known) + " " + tests::hash_of(texts);
  CHECK(found == tests::read_lines(kGoldens + "canonical.txt").back());
}

// Groups of engram.md 1.2: the members of one are the same, those of different ones are not.
TEST_CASE("what looks alike is one", "[canonical]") {
  const std::vector<std::vector<std::string>> groups = {
      {"a", "A", " a", "\u00e1", "\u00e4", "\u00c5", "a\u0301"},
      {"\ufb01", "fi", "FI"},
      {" ", "  ", "\n", "\t\n", "\u00a0", "\u3000"},
      {"The", " the", "THE"},
      {"\u0130", "i"},
      {"\u00df", "\u1e9e"},
      {"SS", "ss"},
      {"\u0915", "\u0915\u093f", "\u0915\u093e"},
      {"\u03a9", "\u2126"},
      {"\u00bd", "1\u20442"},
      {"1", "\u2460"},
      {"\uff71", "\u30a2"},
      {"\u30ac", "\u30ab"},
      {"\u03a3", "\u03c3"},
      {"\u03c2"},
      {"\u0301"},
      {"\x0b"},
      {"\u200b"},
  };
  std::set<std::string> keys;
  for (const std::vector<std::string>& group : groups) {
    const std::string key = canonical_text(group[0]);
    CAPTURE(group[0]);
    CHECK(keys.insert(key).second);
    for (const std::string& member : group) {
      CAPTURE(member);
      CHECK(canonical_text(member) == key);
    }
  }
  CHECK(canonical_text("\u0301") == "\u0301");
  CHECK(canonical_text("\x0b") == "\x0b");
  CHECK(canonical_text("") == "");
  CHECK(canonical_text("\ue000") == " ");
}

TEST_CASE("bytes that are no character count by their vocabulary string", "[canonical]") {
  // Bytes C3 and A9 apart, together as a character, and an added token with U+FFFD in it.
  const std::string json = R"({
    "added_tokens": [{"id": 4, "content": "x\ufffd"}, {"id": 5, "content": "E"}],
    "pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"Ã": 0, "©": 1, "Ã©": 2, "e": 3}, "merges": []}})";
  const CanonicalIds ids = derive(json);
  CHECK(ids.map == std::vector<int32_t>{0, 1, 2, 2, 3, 2});
  CHECK(ids.count == 4);
}

TEST_CASE("the Unicode version is that of ICU", "[canonical]") {
  CHECK(unicode_version() == std::string(U_UNICODE_VERSION));
}

}  // namespace
}  // namespace engram::engine

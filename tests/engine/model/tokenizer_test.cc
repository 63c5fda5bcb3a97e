#include "engine/model/tokenizer.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/model/utf8.h"
#include "tests/support/golden_text.h"
#include "tests/support/sanitized.h"

namespace engram::engine {
namespace {

std::unique_ptr<Tokenizer> load(const std::string& directory) {
  memory::Result<std::unique_ptr<Tokenizer>> tokenizer = load_tokenizer(directory);
  INFO(tokenizer.status().message());
  REQUIRE(tokenizer.ok());
  return std::move(tokenizer).value();
}

TEST_CASE("the demo tokenizer encodes and decodes", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = load("configs/demo");
  CHECK(tokenizer->size() == 8192);
  for (const std::string text :
       {"Hello, world", "  a\n\n b\t", "日本語 é 👨‍👩‍👧", "x <|end|> y", ""}) {
    CAPTURE(text);
    CHECK(tokenizer->decode(tokenizer->encode(text, false), false) == text);
  }
  CHECK(tokenizer->encode("<|end|>", false) == std::vector<int32_t>{1});
  CHECK(tokenizer->decode({0, 1}, true).empty());
  CHECK(tokenizer->is_special(0));
  CHECK(tokenizer->token_string(0) == "<|begin|>");
}

TEST_CASE("add_bos_token and a template that adds it put one begin token", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = load("configs/demo");
  const std::vector<int32_t> plain = tokenizer->encode("Hello", false);
  std::vector<int32_t> expected = plain;
  expected.insert(expected.begin(), 0);
  CHECK(tokenizer->encode("Hello", true) == expected);
  CHECK(tokenizer->encode("", true) == std::vector<int32_t>{0});
}

TEST_CASE("ids outside the vocabulary are nothing", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = load("configs/demo");
  for (const int32_t id : {-1, 8192, 1 << 30, -(1 << 30)}) {
    CHECK(tokenizer->token_bytes(id).empty());
    CHECK(tokenizer->token_string(id).empty());
    CHECK_FALSE(tokenizer->is_special(id));
    CHECK(tokenizer->decode({id}, false).empty());
  }
}

TEST_CASE("a byte tokenizer gives every byte back", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = make_byte_tokenizer(1000);
  CHECK(tokenizer->size() == 1000);
  CHECK(tokenizer->encode("a\xC3\xA9", true) == std::vector<int32_t>{97, 0xC3, 0xA9});
  CHECK(tokenizer->decode({97, 0xC3, 0xA9, 999}, true) == "aé");
  CHECK(tokenizer->decode({0xC3}, true) == "\uFFFD");
}

// Long words must not take quadratic time, whatever merges they have: these would take hours.
TEST_CASE("megabytes without a cut are encoded in time n log n", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = load("configs/demo");
  for (const std::string unit : {" ", "a", "ab", "\u4e2d\u6587", "the", "=", "\xff"}) {
    for (const size_t megabytes : {1, 4}) {
      std::string text;
      while (text.size() < (megabytes << 20) / (tests::kSanitized ? 16 : 1)) {
        text += unit;
      }
      const std::vector<int32_t> ids = tokenizer->encode(text, false);
      CAPTURE(unit, megabytes);
      CHECK(ids.size() <= 3 * text.size());
      CHECK(tokenizer->decode(ids, false) == replace_invalid_utf8(text));
    }
  }
}

TEST_CASE("pieces decoded one by one are the text decoded at once", "[tokenizer]") {
  const uint32_t seed = 7;
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (const std::string name : {"gpt2", "llama3", "qwen", "deepseek3", "o200k", "checkpoint"}) {
    const std::string path = "tests/golden/tokenizer/" + name + ".json";
    memory::Result<std::unique_ptr<Tokenizer>> parsed = parse_tokenizer(tests::read_text(path), "");
    REQUIRE(parsed.ok());
    const Tokenizer& tokenizer = *parsed.value();
    int64_t wrong = 0;
    for (int round = 0; round < 100000; ++round) {
      const bool skip_special = random() % 2 == 0;
      IncrementalDecoder decoder(tokenizer, skip_special);
      std::vector<int32_t> ids(1 + random() % 12);
      std::string pieces;
      for (int32_t& id : ids) {
        // Half of them among the tokens of single bytes, which rarely end with a character.
        const uint32_t range =
            random() % 2 == 0 ? 260 : static_cast<uint32_t>(tokenizer.size()) + 1;
        id = static_cast<int32_t>(random() % range);
        const std::string piece = decoder.push(id);
        wrong += is_valid_utf8(piece) ? 0 : 1;
        pieces += piece;
      }
      pieces += decoder.flush();
      wrong += pieces == tokenizer.decode(ids, skip_special) ? 0 : 1;
    }
    CAPTURE(name);
    CHECK(wrong == 0);
  }
}

TEST_CASE("a character comes out with its last byte, not before", "[tokenizer]") {
  const std::unique_ptr<Tokenizer> tokenizer = make_byte_tokenizer(256);
  IncrementalDecoder decoder(*tokenizer, false);
  CHECK(decoder.push(0xF0) == "");
  CHECK(decoder.push(0x9F) == "");
  CHECK(decoder.push(0x98) == "");
  CHECK(decoder.push(0x80) == "\U0001f600");
  CHECK(decoder.push(0xE6) == "");
  CHECK(decoder.push('a') == "\uFFFDa");
  CHECK(decoder.push(0xE6) == "");
  CHECK(decoder.flush() == "\uFFFD");
  CHECK(decoder.flush() == "");
}

TEST_CASE("a directory without tokenizer.json is NOT_FOUND", "[tokenizer]") {
  const memory::Result<std::unique_ptr<Tokenizer>> none = load_tokenizer("/nonexistent");
  REQUIRE_FALSE(none.ok());
  CHECK(none.status().code() == memory::Code::kNotFound);
}

}  // namespace
}  // namespace engram::engine

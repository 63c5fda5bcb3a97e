#include "engine/model/tokenizer.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/model/utf8.h"

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

TEST_CASE("a directory without tokenizer.json is NOT_FOUND", "[tokenizer]") {
  const memory::Result<std::unique_ptr<Tokenizer>> none = load_tokenizer("/nonexistent");
  REQUIRE_FALSE(none.ok());
  CHECK(none.status().code() == memory::Code::kNotFound);
}

}  // namespace
}  // namespace engram::engine

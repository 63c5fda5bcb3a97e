// What a tokenizer.json that is wrong gets: INVALID_ARGUMENT for what cannot be meant,
// UNIMPLEMENTED for what is not known, both naming the field.
#include "engine/model/tokenizer_spec.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model/tokenizer.h"

namespace engram::engine {
namespace {

using memory::Code;
using nlohmann::json;

json valid() {
  return json::parse(R"({
    "added_tokens": [
      {"id": 3, "content": "<b>", "special": true},
      {"id": 4, "content": "<e>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel"},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

json with(const std::string& pointer, const json& value) {
  json changed = valid();
  changed[json::json_pointer(pointer)] = value;
  return changed;
}

memory::Status status_of(const json& tokenizer, const std::string& config = "") {
  return parse_tokenizer(tokenizer.dump(), config).status();
}

struct Wrong {
  json tokenizer;
  Code code;
  std::string message;  // a part of it
};

void check_all(const std::vector<Wrong>& cases) {
  for (const Wrong& wrong : cases) {
    CAPTURE(wrong.tokenizer.dump());
    const memory::Status status = status_of(wrong.tokenizer);
    CHECK(status.code() == wrong.code);
    CHECK_THAT(status.message(), Catch::Contains(wrong.message));
  }
}

TEST_CASE("a small tokenizer loads", "[tokenizer]") {
  const memory::Result<std::unique_ptr<Tokenizer>> tokenizer = parse_tokenizer(valid().dump(), "");
  REQUIRE(tokenizer.ok());
  CHECK(tokenizer.value()->encode("ab<e>ba", true) == std::vector<int32_t>{2, 4, 1, 0});
}

TEST_CASE("text that is not such a JSON", "[tokenizer]") {
  for (const std::string text :
       {"", "{", "nul", "\xff", "[]", "3", "\"x\"", "{} {}", "{\"a\": 1, \"a\": 2}"}) {
    CAPTURE(text);
    const memory::Status status = parse_tokenizer(text, "").status();
    CHECK(status.code() != Code::kOk);
    CHECK_THAT(status.message(), Catch::StartsWith("tokenizer.json: "));
  }
  const memory::Status deep = parse_tokenizer(std::string(100000, '['), "").status();
  CHECK(deep.code() == Code::kInvalidArgument);
}

TEST_CASE("a model that is wrong", "[tokenizer]") {
  check_all({
      {with("/model", 3), Code::kInvalidArgument, "model: expected an object, found 3"},
      {with("/model/type", "Unigram"), Code::kUnimplemented, "model.type: model type Unigram"},
      {with("/model/type", 7), Code::kInvalidArgument, "model.type: expected a string"},
      {with("/model/dropout", 0.1), Code::kUnimplemented, "model.dropout"},
      {with("/model/byte_fallback", true), Code::kUnimplemented, "model.byte_fallback"},
      {with("/model/byte_fallback", 1), Code::kInvalidArgument, "model.byte_fallback"},
      {with("/model/ignore_merges", "no"), Code::kInvalidArgument, "model.ignore_merges"},
      {with("/model/continuing_subword_prefix", "##"), Code::kUnimplemented, "_prefix"},
      {with("/model/end_of_word_suffix", "</w>"), Code::kUnimplemented, "_suffix"},
      {with("/model/unk_token", "u"), Code::kInvalidArgument, "model.unk_token"},
      {with("/model/vocab", json::array()), Code::kInvalidArgument, "model.vocab: expected an"},
      {with("/model/vocab", json::object()), Code::kInvalidArgument, "at least one token"},
      {with("/model/vocab/b", "1"), Code::kInvalidArgument, "model.vocab[\"b\"]"},
      {with("/model/vocab/b", 1.0), Code::kInvalidArgument, "expected an integer in 0..4194303"},
      {with("/model/vocab/b", -1), Code::kInvalidArgument, "found -1"},
      {with("/model/vocab/b", 1 << 22), Code::kInvalidArgument, "found 4194304"},
      {with("/model/vocab/b", UINT64_MAX), Code::kInvalidArgument, "found 18446744073709551615"},
      {with("/model/vocab/b", 0), Code::kInvalidArgument, "an id that no other token has"},
      {with("/model/merges", nullptr), Code::kInvalidArgument, "model.merges: expected an array"},
      {with("/model/merges/0", "ab"), Code::kInvalidArgument, "model.merges[0]"},
      {with("/model/merges/0", "a b c"), Code::kInvalidArgument, "model.merges[0]"},
      {with("/model/merges/0", 5), Code::kInvalidArgument, "model.merges[0]"},
      {with("/model/merges/0", {"a"}), Code::kInvalidArgument, "expected two tokens"},
      {with("/model/merges/0", {"a", 1}), Code::kInvalidArgument, "expected two tokens"},
      {with("/model/merges/0", "b a"), Code::kInvalidArgument, "found \"ba\""},
      {with("/model/merges/0", "a x"), Code::kInvalidArgument, "found \"x\""},
  });
}

TEST_CASE("added tokens that are wrong", "[tokenizer]") {
  check_all({
      {with("/added_tokens", 1), Code::kInvalidArgument, "added_tokens: expected an array"},
      {with("/added_tokens/0", 1), Code::kInvalidArgument, "added_tokens[0]: expected an object"},
      {with("/added_tokens/0/id", nullptr), Code::kInvalidArgument, "added_tokens[0].id"},
      {with("/added_tokens/0/id", 1 << 22), Code::kInvalidArgument, "added_tokens[0].id"},
      {with("/added_tokens/0/id", 7), Code::kInvalidArgument, "expected 3, found 7"},
      {with("/added_tokens/1/id", 3), Code::kInvalidArgument, "expected 4, found 3"},
      {with("/added_tokens/0/content", "ab"), Code::kInvalidArgument, "expected 2, found 3"},
      {with("/added_tokens/0/content", ""), Code::kInvalidArgument, "added_tokens[0].content"},
      {with("/added_tokens/1/content", "<b>"), Code::kInvalidArgument, "not there yet"},
      {with("/added_tokens/0/lstrip", "x"), Code::kInvalidArgument, "added_tokens[0].lstrip"},
  });
}

json split(const std::string& regex) {
  return {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}},
        {{"type", "ByteLevel"}}}}};
}

TEST_CASE("components that are wrong or not known", "[tokenizer]") {
  const json level = {{"type", "ByteLevel"}};
  check_all({
      {with("/pre_tokenizer", nullptr), Code::kUnimplemented, "pre_tokenizer"},
      {with("/pre_tokenizer", {{"type", "Metaspace"}}), Code::kUnimplemented, "type Metaspace"},
      {with("/pre_tokenizer/type", 1), Code::kInvalidArgument, "pre_tokenizer.type"},
      {with("/pre_tokenizer/add_prefix_space", 1), Code::kInvalidArgument, "add_prefix_space"},
      {with("/pre_tokenizer", {{"type", "Sequence"}}), Code::kInvalidArgument, "pretokenizers"},
      {with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {level, level}}}),
       Code::kUnimplemented, "pre_tokenizer.pretokenizers[1]: a ByteLevel behind ByteLevel"},
      {with("/pre_tokenizer/type", "Split"), Code::kInvalidArgument, "pre_tokenizer.pattern"},
      {with("/normalizer", {{"type", "BertNormalizer"}}), Code::kUnimplemented, "BertNormalizer"},
      {with("/normalizer", 4), Code::kInvalidArgument, "normalizer: expected an object"},
      {with("/decoder", nullptr), Code::kUnimplemented, "decoder"},
      {with("/decoder", {{"type", "WordPiece"}}), Code::kUnimplemented, "type WordPiece"},
      {with("/post_processor", {{"type", "BertProcessing"}}), Code::kUnimplemented,
       "BertProcessing"},
      {with("/post_processor", {{"type", "TemplateProcessing"}}), Code::kInvalidArgument,
       "post_processor.single"},
  });
}

TEST_CASE("patterns that are not supported are named", "[tokenizer]") {
  for (const std::string pattern :
       {"(?<=a)b",
        "a(?!b)",
        "(?=x)",
        "\\s+(?!\\S)x",
        "(?>a)",
        "(a)\\1",
        "a++",
        "\\bx",
        "^x",
        "\\p{Han}",
        "[[:alpha:]]",
        "(?i:ss)",
        "(?i:é)",
        "(?i:[a-é])",
        "(",
        ")",
        "[",
        "[a",
        "[z-a]",
        "a{2",
        "a{5,2}",
        "*",
        "\\",
        "\\x{110000}",
        "\\xff",
        "\\p{",
        "(?:a{999}){999}"}) {
    CAPTURE(pattern);
    const memory::Status status = status_of(with("/pre_tokenizer", split(pattern)));
    CHECK(status.code() == Code::kUnimplemented);
    CHECK_THAT(status.message(), Catch::Contains("split pattern \"" + pattern + "\""));
  }
}

json template_of(const json& single) {
  return {
      {"type", "TemplateProcessing"},
      {"single", single},
      {"special_tokens", {{"<b>", {{"id", "<b>"}, {"ids", {3}}}}, {"x", {{"ids", {5}}}}}}};
}

const json kText = {{"Sequence", {{"id", "A"}}}};

json special(const std::string& name) {
  return {{"SpecialToken", {{"id", name}}}};
}

TEST_CASE("templates that are wrong", "[tokenizer]") {
  check_all({
      {with("/post_processor", template_of(json::array({special("<b>")}))), Code::kInvalidArgument,
       "expected one Sequence"},
      {with("/post_processor", template_of({kText, kText})), Code::kInvalidArgument,
       "expected one Sequence"},
      {with("/post_processor", template_of({special("?"), kText})), Code::kInvalidArgument,
       "special_tokens.?"},
      {with("/post_processor", template_of({special("x"), kText})), Code::kInvalidArgument,
       "special_tokens.x.ids[0]: expected an integer in 0..4, found 5"},
      {with("/post_processor", template_of({kText, 3})), Code::kInvalidArgument, "single[1]"},
  });
}

std::vector<int32_t> encode_a(const json& tokenizer, const json& config) {
  const memory::Result<std::unique_ptr<Tokenizer>> loaded =
      parse_tokenizer(tokenizer.dump(), config.is_null() ? "" : config.dump());
  INFO(loaded.status().message());
  REQUIRE(loaded.ok());
  return loaded.value()->encode("a", true);
}

// The flags of tokenizer_config.json decide where they are; the post-processor where they are not.
TEST_CASE("begin and end tokens", "[tokenizer]") {
  const json plain = valid();
  const json begun = with("/post_processor", template_of({special("<b>"), kText}));
  const json named = {{"bos_token", "<b>"}, {"eos_token", {{"content", "<e>"}}}};
  const auto config = [&named](const json& flags) {
    json all = named;
    all.update(flags);
    return all;
  };
  using Ids = std::vector<int32_t>;
  CHECK(encode_a(plain, nullptr) == Ids{0});
  CHECK(encode_a(plain, named) == Ids{0});
  CHECK(encode_a(begun, named) == Ids{3, 0});
  CHECK(encode_a(begun, config({{"add_bos_token", nullptr}})) == Ids{3, 0});
  CHECK(encode_a(plain, config({{"add_bos_token", true}})) == Ids{3, 0});
  CHECK(encode_a(begun, config({{"add_bos_token", true}})) == Ids{3, 0});
  CHECK(encode_a(begun, config({{"add_bos_token", false}})) == Ids{0});
  CHECK(encode_a(begun, config({{"add_eos_token", true}})) == Ids{3, 0, 4});
  CHECK(
      encode_a(plain, config({{"add_bos_token", true}, {"add_eos_token", true}})) == Ids{3, 0, 4});
  CHECK(encode_a(plain, {{"add_eos_token", true}}) == Ids{0});  // no eos_token: nothing to add
  const json both = {
      {"type", "Sequence"},
      {"processors",
       {{{"type", "ByteLevel"}},
        template_of({kText, special("<b>")}),
        template_of({special("<b>"), kText})}}};
  CHECK(encode_a(with("/post_processor", both), nullptr) == Ids{3, 0, 3});
}

TEST_CASE("a tokenizer_config.json that is wrong", "[tokenizer]") {
  for (const std::string config :
       {"{", "[]", R"({"add_bos_token": 1})", R"({"add_bos_token": true})",
        R"({"add_bos_token": true, "bos_token": "?"})",
        R"({"add_bos_token": true, "bos_token": {"text": "<b>"}})", R"({"bos_token": 5})"}) {
    CAPTURE(config);
    const memory::Status status = status_of(valid(), config);
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(status.message(), Catch::StartsWith("tokenizer_config.json: "));
  }
}

}  // namespace
}  // namespace engram::engine

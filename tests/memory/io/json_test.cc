#include "memory/io/json.h"

#include <catch2/catch.hpp>

namespace engram::memory {
namespace {

using nlohmann::json;

TEST_CASE("good JSON gives what the library gives", "[json]") {
  for (const char* text :
       {"null", "true", "-1", "18446744073709551615", "1.5e-3", "\"\\u00e9\\ud83d\\ude00\"", "[]",
        "{}", R"([1,[2,{"a":[]},3],"x"])", R"({"a":{"b":[{"c":1},{"c":2}]},"d":"","e":null})",
        " {\"a\" : 1 } \n"}) {
    CAPTURE(text);
    const Result<json> parsed = parse_json(text, "file");
    REQUIRE(parsed.ok());
    CHECK(parsed.value() == json::parse(text));
  }
}

TEST_CASE("bad JSON is refused where it goes wrong", "[json]") {
  const auto message = [](std::string_view text) {
    const Status status = parse_json(text, "file").status();
    CHECK(status.code() == Code::kInvalidArgument);
    return status.message();
  };
  CHECK(message("") == "file: not valid JSON at byte 1");
  CHECK(message("{\"a\":1,}") == "file: not valid JSON at byte 8");
  CHECK(message("[1] 2") == "file: not valid JSON at byte 5");
  CHECK(message("\"\xff\"") == "file: not valid JSON at byte 2");
  CHECK(message(std::string_view("{}\0", 3)) == "file: not valid JSON at byte 2");
  CHECK(message("NaN") == "file: not valid JSON at byte 1");
  CHECK(message(R"({"a":1,"b":{"x":1,"y":2,"x":3}})") == "file: duplicate key \"x\"");
}

TEST_CASE("keys may repeat in different objects", "[json]") {
  CHECK(parse_json(R"([{"a":1},{"a":2,"b":{"a":3}}])", "file").ok());
}

TEST_CASE("64 levels are the limit", "[json]") {
  CHECK(parse_json(std::string(64, '[') + std::string(64, ']'), "file").ok());
  const Status status = parse_json(std::string(65, '[') + std::string(65, ']'), "file").status();
  CHECK_THAT(status.message(), Catch::Contains("deeper than 64 levels"));
}

TEST_CASE("excerpts are short", "[json]") {
  CHECK(json_excerpt(json::parse(R"({"a":[1,"x"]})")) == R"({"a":[1,"x"]})");
  CHECK(json_excerpt(json(std::string(1000, 'x'))).size() < 70);
  CHECK(json_excerpt(json(std::vector<int>(17, 1))) == "a list of 17 entries");
}

}  // namespace
}  // namespace engram::memory

// Values as people write them.
#include "server/flags.h"

#include <catch2/catch.hpp>
#include <string>

namespace engram::server {

TEST_CASE("flags: counts and sizes", "[flags]") {
  const std::pair<const char*, int64_t> counts[] = {{"0", 0},        {"4096", 4096}, {"32k", 32768},
                                                    {"1M", 1 << 20}, {"1.5k", 1536}, {"-1", -1}};
  for (const auto& [text, value] : counts) {
    CAPTURE(text);
    const memory::Result<int64_t> parsed = parse_count(text);
    REQUIRE(parsed.ok());
    CHECK(parsed.value() == value);
  }
  const std::pair<const char*, int64_t> sizes[] = {
      {"2GiB", int64_t{2} << 30},
      {"2G", int64_t{2} << 30},
      {"512mib", 512 << 20},
      {"1GB", 1000000000},
      {"100", 100},
      {"0.5GiB", 1 << 29}};
  for (const auto& [text, value] : sizes) {
    CAPTURE(text);
    const memory::Result<int64_t> parsed = parse_bytes(text);
    REQUIRE(parsed.ok());
    CHECK(parsed.value() == value);
  }
}

TEST_CASE("flags: what is no number is refused with its text", "[flags]") {
  for (const char* text : {"", "x", "12x", "k", "1e400", "nan", "inf", "0x10", "1.2.3", "1 2"}) {
    CAPTURE(text);
    for (const memory::Status& status :
         {parse_count(text).status(), parse_bytes(text).status(), parse_seconds(text).status(),
          parse_number(text).status()}) {
      CHECK(status.code() == memory::Code::kInvalidArgument);
      CHECK(status.message().find(text) != std::string::npos);
    }
  }
  CHECK(!parse_count("1.5").ok());
  CHECK(!parse_count("99999999999999999999").ok());
}

TEST_CASE("flags: times and switches", "[flags]") {
  CHECK(parse_seconds("45").value() == Approx(45));
  CHECK(parse_seconds("250ms").value() == Approx(0.25));
  CHECK(parse_seconds("2m").value() == Approx(120));
  CHECK(parse_bool("Yes").value());
  CHECK(!parse_bool("off").value());
  CHECK(!parse_bool("perhaps").ok());
}

TEST_CASE("flags: the nearest word", "[flags]") {
  const std::vector<std::string> known = {"--model", "--max-model-len", "--port"};
  CHECK(nearest("--modle", known) == "--model");
  CHECK(nearest("--max-model-length", known) == "--max-model-len");
  CHECK(nearest("--completely-different", known).empty());
}

}  // namespace engram::server

#include "memory/base/byte_text.h"

#include <catch2/catch.hpp>

namespace engram::memory {
namespace {

TEST_CASE("sizes are read with binary and decimal units", "[byte_text]") {
  const std::pair<const char*, int64_t> sizes[] = {
      {"0", 0},
      {"100", 100},
      {"7b", 7},
      {"512mib", 512 << 20},
      {"2G", int64_t{2} << 30},
      {"2GiB", int64_t{2} << 30},
      {"1GB", 1000000000},
      {"0.5GiB", 1 << 29},
      {"1.5TiB", int64_t{3} << 39}};
  for (const auto& [text, value] : sizes) {
    CAPTURE(text);
    const Result<int64_t> parsed = parse_bytes(text);
    REQUIRE(parsed.ok());
    CHECK(parsed.value() == value);
  }
}

TEST_CASE("what is no size is refused with its text", "[byte_text]") {
  for (const char* text :
       {"", "x", "GiB", "12x", "1.5", "0.3KiB", "1e400", "1e18TiB", "nan", "0x10", "1 2", " 1"}) {
    CAPTURE(text);
    const Status status = parse_bytes(text).status();
    CHECK(status.code() == Code::kInvalidArgument);
    CHECK_THAT(status.message(), Catch::EndsWith(std::string(text) + '"'));
  }
}

TEST_CASE("sizes are written in the largest unit that keeps them above one", "[byte_text]") {
  CHECK(format_bytes(0) == "0");
  CHECK(format_bytes(512) == "0.5 KiB");
  CHECK(format_bytes(3 << 19) == "1.5 MiB");
  CHECK(format_bytes(int64_t{3} << 29) == "1.50 GiB");
  CHECK(format_bytes(int64_t{189} << 30) == "189.00 GiB");
}

}  // namespace
}  // namespace engram::memory

// Escaping, exact numbers in tables, the page as a whole; numbers as text.
#include "tools/bench/html_page.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>

#include "tests/support/xml_check.h"
#include "tools/bench/number_text.h"

namespace engram::tools::bench {
namespace {

TEST_CASE("markup in text does not survive") {
  REQUIRE(
      escape_html("<script>alert(\"a\" & 'b')</script>") ==
      "&lt;script&gt;alert(&quot;a&quot; &amp; &#39;b&#39;)&lt;/script&gt;");
  REQUIRE(escape_html("plain µs – 5") == "plain µs – 5");
  REQUIRE(escape_html(std::string("a\0b\x1b", 4)) == "a\uFFFDb\uFFFD");
  REQUIRE(escape_html("\xEF\xBF\xBF") == "\uFFFD");
  REQUIRE(escape_html("a\nb\tc") == "a\nb\tc");
}

TEST_CASE("every byte as text gives a well-formed page") {
  std::mt19937_64 random(3);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (int c = 0; c < 40; ++c) text += static_cast<char>(random() % 128);
    CAPTURE(text);
    const Table table{.header = {text}, .rows = {{text_cell(text), number_cell(1.5)}}};
    const Figure figure{
        .title = text,
        .note = text,
        .warning = text,
        .legend = {{text, "<svg></svg>"}},
        .drawing = "<svg></svg>",
        .numbers = table};
    const std::string body = warning_html(text) + heading_html(text) + paragraph_html(text) +
                             figure_html(figure) + missing_figure_html(text, text) +
                             details_html(text, table_html(table), true);
    REQUIRE(tests::xml_error(page_html(text, figure_grid_html(body))) == "");
  }
}

TEST_CASE("a page asks for nothing") {
  const std::string page = page_html("t", "");
  for (const char* part : {"http:", "https:", "<script", "<link", "src=", "@import", "url("}) {
    CAPTURE(part);
    REQUIRE(page.find(part) == std::string::npos);
  }
  REQUIRE(page.find("<meta charset=\"utf-8\"/>") != std::string::npos);
}

TEST_CASE("a table keeps its numbers exactly") {
  std::mt19937_64 random(4);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t bits = random();
    double value = 0;
    std::memcpy(&value, &bits, sizeof value);
    if (!std::isfinite(value)) continue;
    CAPTURE(value);
    const std::string html = table_html({.header = {}, .rows = {{number_cell(value)}}});
    const size_t at = html.find("data-value=\"");
    REQUIRE(at != std::string::npos);
    REQUIRE(std::strtod(html.c_str() + at + 12, nullptr) == value);
  }
  REQUIRE(number_cell(std::nullopt).text == "–");
  REQUIRE(!number_cell(std::nan("")).number);
}

TEST_CASE("numbers for people") {
  REQUIRE(short_number(0) == "0");
  REQUIRE(short_number(123456) == "123,456");
  REQUIRE(short_number(-1234567.8) == "-1,234,568");
  REQUIRE(short_number(1000) == "1,000");
  REQUIRE(short_number(999) == "999");
  REQUIRE(short_number(12.345) == "12.35");
  REQUIRE(short_number(0.00123) == "0.00123");
  REQUIRE(short_number(1e300) == "1e+300");
  REQUIRE(short_number(INFINITY) == "∞");
  REQUIRE(axis_number(1500, false) == "1.5k");
  REQUIRE(axis_number(4e9, true) == "4B");
  REQUIRE(axis_number(4e9, false) == "4G");
  REQUIRE(axis_number(0.25, false) == "0.25");
  REQUIRE(axis_number(1e30, false) == "1e+30");
  REQUIRE(signed_percent(-0.5) == "-0.50");
  REQUIRE(exact_number(0.1) == "0.1");
  REQUIRE(exact_number(INFINITY) == "inf");
  REQUIRE(exact_number(std::nan("")).empty());
}

}  // namespace
}  // namespace engram::tools::bench

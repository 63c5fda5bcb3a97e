#include "server/help_text.h"

#include <catch2/catch.hpp>
#include <sstream>
#include <string>

namespace engram::server {
namespace {

std::string whole_help() {
  const auto parsed = parse_options({"--help"}, [](const char*) -> const char* { return nullptr; });
  REQUIRE(parsed.ok());
  return parsed.value().help;
}

// The entry of a flag, its lines joined.
std::string entry_of(const std::string& help, const std::string& names) {
  const size_t begin = help.find("  " + names + " ");
  REQUIRE(begin != std::string::npos);
  std::istringstream words(help.substr(begin, help.find("\n  -", begin) - begin));
  std::string joined;
  std::string word;
  while (words >> word) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

TEST_CASE("the help has every flag, its other names and its value", "[help]") {
  const std::string help = whole_help();
  CHECK_THAT(help, Catch::Contains("Usage: engramd [OPTIONS] [MODEL]\n"));
  CHECK(
      entry_of(help, "-m, --model") ==
      "-m, --model Directory of the checkpoint; also the first argument. Also --model-path");
  CHECK(entry_of(help, "--port") == "--port gRPC port; 0: any, printed at start [8001]");
  CHECK(entry_of(help, "--[no-]metrics") == "--[no-]metrics Serve Prometheus metrics [true]");
  CHECK_THAT(
      entry_of(help, "--[no-]enable-prefix-caching"),
      Catch::EndsWith("Also --disable-radix-cache (off) [true]"));
  Options options;
  for (const Flag& flag : option_table(&options)) {
    CAPTURE(flag.name);
    CHECK_THAT(help, Catch::Contains((flag.is_switch ? "--[no-]" : "--") + flag.name));
  }
  for (const char* other : {"--config FILE", "--print-config", "--health-check HOST:PORT"}) {
    CHECK_THAT(help, Catch::Contains(other));
  }
}

TEST_CASE("the help has no line over 100 columns and no braces", "[help]") {
  const std::string help = whole_help();
  CHECK(help.find_first_of("{}") == std::string::npos);
  std::istringstream lines(help);
  std::string line;
  while (std::getline(lines, line)) {
    CAPTURE(line);
    CHECK(line.size() <= 100);
  }
}

TEST_CASE("an entry with long names starts its text on the next line", "[help]") {
  const std::string indent(34, ' ');
  CHECK(help_entry("--a", "one two") == "  --a" + std::string(29, ' ') + "one two\n");
  CHECK(
      help_entry("--" + std::string(40, 'x'), "one") ==
      "  --" + std::string(40, 'x') + "\n" + indent + "one\n");
  CHECK(
      help_entry("--a", std::string(60, 'y') + " z" + std::string(10, 'z')) ==
      "  --a" + std::string(29, ' ') + std::string(60, 'y') + "\n" + indent + std::string(11, 'z') +
          "\n");
}

}  // namespace
}  // namespace engram::server

// Whole reports: every figure of the samples, the lines in place of those whose data is missing,
// warnings, the flat table; and reports of random results, which must always be well-formed.
#include "tools/bench/report.h"

#include <catch2/catch.hpp>
#include <limits>
#include <random>

#include "tests/support/bench_results.h"
#include "tests/support/xml_check.h"

namespace engram::tools::bench {
namespace {

ResultSet parsed(const std::string& text) {
  ResultSet results;
  REQUIRE(parse_results(text, "r.json", &results).ok());
  return results;
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("a sweep has all of its figures") {
  const std::string one = tests::serve_result_json();
  const std::string page =
      report_page(parsed(one + with(one, "\"request_rate\":4.0", "\"request_rate\":\"inf\"")));
  REQUIRE(tests::xml_error(page) == "");
  for (const char* title :
       {"Throughput against request rate", "Requests served against request rate",
        "TTFT against request rate", "TPOT against request rate",
        "Throughput against interactivity", "Latency from end to end, distribution",
        "TTFT, distribution", "TTFT against prompt length", "Timeline: host tables"}) {
    CAPTURE(title);
    REQUIRE(holds(page, std::string("<h3>") + title));
  }
  REQUIRE(holds(page, "no limit"));
  REQUIRE(!holds(page, "is left out"));
}

TEST_CASE("a figure without data is a line that names the flag") {
  const std::string page = report_page(parsed(tests::vllm_result_json()));
  REQUIRE(tests::xml_error(page) == "");
  REQUIRE(holds(page, "TTFT, distribution</b> is left out: needs runs saved with --save-detailed"));
  REQUIRE(
      holds(page, "is left out: needs the results of several runs that differ in --request-rate"));
  REQUIRE(!holds(page, "<svg class=\"plot\""));
}

TEST_CASE("an experiment has all of its figures and its numbers") {
  const std::string text = tests::overhead_result_json();
  const std::string page = report_page(
      parsed(text + with(text, "\"table_parameters\":1000000000", "\"table_parameters\":4e9")));
  REQUIRE(tests::xml_error(page) == "");
  for (const char* title :
       {"Overhead of D over N against batch size: output throughput, w3",
        "Cost of D over N against table size: output throughput, w3", "Split of the cost",
        "Rounds: output throughput, w3, batch 1", "Exposed wait: w3, batch 1"}) {
    CAPTURE(title);
    REQUIRE(holds(page, std::string("<h3>") + title));
  }
  for (const char* number : {"0.5", "1.75", "-0.125", "0.875", "99.5", "101", "7.5", "3.25"}) {
    CAPTURE(number);
    REQUIRE(holds(page, std::string("data-value=\"") + number + "\""));
  }
  REQUIRE(holds(page, "NOISY"));
  REQUIRE(holds(page, "Not quiet: w3, batch 4"));
  REQUIRE(holds(page, "class=\"open"));
}

TEST_CASE("one point of an experiment is drawn on its own") {
  const std::string text = tests::overhead_result_json();
  const size_t first = text.find("{\"workload\"");
  const size_t second = text.find(",{\"workload\"");
  const size_t end = text.find("],\"flatness\"");
  const std::string page = report_page(parsed(text.substr(0, second) + text.substr(end)));
  REQUIRE(first < second);
  REQUIRE(holds(page, "Overhead against batch size</b> is left out"));
  REQUIRE(holds(page, "Cost against table size</b> is left out"));
  REQUIRE(holds(page, "<h3>Rounds: "));
}

TEST_CASE("a client that was the bottleneck is told in plain sight") {
  const std::string text = with(
      tests::serve_result_json(), "\"x_client_bottleneck\":false", "\"x_client_bottleneck\":true");
  const std::string page = report_page(parsed(text));
  const size_t warning = page.find("The client was the bottleneck");
  REQUIRE(warning != std::string::npos);
  REQUIRE(warning < page.find("<table"));
  REQUIRE(holds(page, "NO, see above"));
}

TEST_CASE("markup in labels is text") {
  const std::string text = with(
      tests::serve_result_json(), "\"label\":\"host tables\"",
      R"("label":"</title><script>alert('x')</script>\u0001&amp;")");
  const std::string page = report_page(parsed(text + text));
  REQUIRE(tests::xml_error(page) == "");
  REQUIRE(!holds(page, "<script"));
  REQUIRE(holds(page, "&lt;script&gt;"));
}

TEST_CASE("no results, and runs in which nothing was measured") {
  REQUIRE(tests::xml_error(report_page(ResultSet{})) == "");
  const std::string empty_run =
      R"({"x_kind":"serve","x_schema":1,"completed":0,"ttfts":[null],"itls":[[]]})";
  const std::string empty_points =
      R"({"x_kind":"overhead","x_schema":1,"points":[{"workload":"w1"}]})";
  for (const std::string& text :
       {empty_run, empty_run + empty_run, empty_points,
        std::string(R"({"x_kind":"paper","x_schema":1,"points":[]})")}) {
    CAPTURE(text);
    REQUIRE(tests::xml_error(report_page(parsed(text))) == "");
    REQUIRE(holds(report_csv(parsed(text)), "kind,file"));
  }
}

TEST_CASE("the flat table has a row per figure") {
  const std::string csv = report_csv(parsed(
      with(tests::serve_result_json(), "host tables", "=1+1, \\\"x\\\"") +
      tests::overhead_result_json()));
  REQUIRE(holds(
      csv,
      "serve,r.json (result 1),\"'=1+1, \"\"x\"\"\",20261122-131500,no,4,8,,,,,,,,,,"
      "request_throughput,1.3333333333333333,,\r\n"));
  REQUIRE(holds(
      csv,
      "overhead,r.json (result 2),demo,2026-11-22,yes,,,w3,1,512,16-32,1e+09,no,D,N,,"
      "overhead_percent.output_throughput,1,0.5,1.75\r\n"));
  REQUIRE(holds(csv, ",no,D,,3,output_throughput,99.5,,\r\n"));
  REQUIRE(holds(csv, ",,,,split_percent.launches,,,\r\n"));
  // Each row has as many fields as the header; quoted commas are in labels only.
  const size_t commas = static_cast<size_t>(std::count(csv.begin(), csv.begin() + 200, ','));
  REQUIRE(commas > 0);
  size_t from = 0;
  for (size_t end = csv.find("\r\n"); end != std::string::npos; end = csv.find("\r\n", from)) {
    bool quoted = false;
    int fields = 1;
    for (size_t i = from; i < end; ++i) {
      if (csv[i] == '"') quoted = !quoted;
      if (csv[i] == ',' && !quoted) ++fields;
    }
    CAPTURE(csv.substr(from, end - from));
    REQUIRE(fields == 20);
    from = end + 2;
  }
  REQUIRE(from == csv.size());
}

TEST_CASE("reports of random results are well-formed") {
  std::mt19937_64 random(29);
  const std::vector<std::string> numbers = {"0",      "-1",     "1",    "2",   "1e308",
                                            "-1e308", "1e-308", "null", "3.5", "1000000"};
  const auto any = [&] { return numbers[random() % numbers.size()]; };
  const std::vector<std::string> members = {
      "\"duration\":1.5",
      "\"output_throughput\":4.0",
      "\"median_ttft_ms\":15.25",
      "0.0205",
      "100.25",
      "[0.005,0.007]",
      "\"request_throughput\":1.3333333333333333"};
  const std::vector<std::string> points = {
      "\"batch\":4",
      "\"low\":0.5",
      "\"value\":0.75",
      "\"median\":99.5",
      "101,99.5",
      "\"p99\":7.5",
      "\"interference\":-0.125",
      "60]",
      "\"spread_percent\":12.5"};
  const auto changed = [&](std::string text, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      const size_t at = text.find(part);
      if (at == std::string::npos || random() % 2 == 0) continue;
      const size_t digits = part.find_last_of(":[,") + 1;
      const size_t last = part.find_last_of("0123456789") + 1;
      text.replace(at + digits, last - digits, any());
    }
    return text;
  };
  for (int i = 0; i < 400; ++i) {
    const std::string text = changed(tests::serve_result_json(), members) +
                             changed(tests::serve_result_json(), members) +
                             changed(tests::overhead_result_json(), points) +
                             changed(tests::overhead_result_json(), points);
    CAPTURE(i, text);
    ResultSet results;
    if (!parse_results(text, "r.json", &results).ok()) continue;
    const std::string page = report_page(results);
    REQUIRE(tests::xml_error(page) == "");
    REQUIRE(!holds(page, "nan"));
  }
}

}  // namespace
}  // namespace engram::tools::bench

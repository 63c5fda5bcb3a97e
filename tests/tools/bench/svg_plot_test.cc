// Drawings: marks and intervals lie where their values are, what is not finite is left out, and
// whatever the values are, the markup is well-formed.
#include "tools/bench/svg_plot.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <regex>

#include "tests/support/xml_check.h"
#include "tools/bench/svg_bars.h"
#include "tools/bench/svg_frame.h"
#include "tools/bench/svg_timeline.h"

namespace engram::tools::bench {
namespace {

constexpr double kHuge = std::numeric_limits<double>::max();

std::vector<double> strange_values() {
  return {0, -0., 1, -1, 1e-300, 1e300, kHuge, -kHuge, kNone, INFINITY, -INFINITY, 5e-324};
}

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The y pixels of the interval's ends, in the order of the drawing.
std::vector<std::pair<double, double>> drawn_intervals(const std::string& svg) {
  const std::regex form("class=\"interval[^\"]*\" d=\"M[0-9.]+ ([0-9.]+)V([0-9.]+)");
  std::vector<std::pair<double, double>> found;
  for (std::sregex_iterator it(svg.begin(), svg.end(), form), end; it != end; ++it) {
    found.emplace_back(std::stod((*it)[1]), std::stod((*it)[2]));
  }
  return found;
}

TEST_CASE("an interval is drawn where its ends are") {
  Plot plot{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .series = {}};
  plot.series.push_back(
      {.name = "s",
       .points = {
           {.x = 1, .y = 5, .low = 0, .high = 10},
           {.x = 2, .y = 4, .low = 2.5, .high = 7.5},
           {.x = 3, .y = 4}}});
  const std::string svg = draw_plot(plot);
  const auto intervals = drawn_intervals(svg);
  REQUIRE(intervals.size() == 2);
  const Frame frame(plot.x, {1, 3}, plot.y, {0, 10});
  REQUIRE(intervals[0].first == Approx(frame.y().pixel(0)).margin(0.01));
  REQUIRE(intervals[0].second == Approx(frame.y().pixel(10)).margin(0.01));
  REQUIRE(intervals[1].first == Approx(frame.y().pixel(2.5)).margin(0.01));
  REQUIRE(intervals[1].second == Approx(frame.y().pixel(7.5)).margin(0.01));
  // The quarter of the longer one, and pixels run downwards.
  const double whole = intervals[0].first - intervals[0].second;
  REQUIRE(whole > 200);
  REQUIRE(intervals[0].first - intervals[1].first == Approx(whole / 4).margin(0.02));
}

TEST_CASE("values that are not finite leave a gap") {
  Plot plot{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .series = {}};
  plot.series.push_back(
      {.name = "s",
       .points = {
           {.x = 1, .y = 1},
           {.x = 2, .y = 2},
           {.x = 3, .y = kNone},
           {.x = 4, .y = 1},
           {.x = 5, .y = 2}}});
  const std::string svg = draw_plot(plot);
  REQUIRE(svg.find("nan") == std::string::npos);
  const std::regex line("class=\"line l0\" d=\"(M[^\"]*)\"");
  std::smatch found;
  REQUIRE(std::regex_search(svg, found, line));
  REQUIRE(count_of(found[1], "M") == 2);
  REQUIRE(count_of(svg, "stroke-width=\"1.5\"") == 4);
}

TEST_CASE("a doubtful point has an open mark and the legend says so") {
  Plot plot{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .series = {}};
  plot.series.push_back({.name = "s", .points = {{.x = 1, .y = 1}}});
  REQUIRE(draw_plot(plot).find("open") == std::string::npos);
  REQUIRE(legend_of(plot).size() == 1);
  plot.series[0].points[0].doubtful = true;
  REQUIRE(draw_plot(plot).find("class=\"open l0\"") != std::string::npos);
  REQUIRE(legend_of(plot).size() == 2);
}

TEST_CASE("text in drawings is escaped") {
  Plot plot{.title = "<b>&", .x = {.label = "<i>"}, .y = {.label = "\"y\""}, .series = {}};
  plot.series.push_back({.name = "s", .points = {{.x = 1, .y = 1, .hint = "<script>"}}});
  const std::string svg = draw_plot(plot);
  REQUIRE(svg.find("<script>") == std::string::npos);
  REQUIRE(svg.find("<i>") == std::string::npos);
  REQUIRE(tests::xml_error(svg) == "");
}

TEST_CASE("any values give a well-formed drawing") {
  std::mt19937_64 random(11);
  const std::vector<double> values = strange_values();
  const auto any = [&] { return values[random() % values.size()]; };
  for (int i = 0; i < 3000; ++i) {
    CAPTURE(i);
    Plot plot{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .series = {}};
    plot.x.log = random() % 2 == 0;
    plot.y.log = random() % 2 == 0;
    plot.y.zero = random() % 2 == 0;
    plot.diagonal = random() % 2 == 0;
    for (uint64_t s = random() % 4; s > 0; --s) {
      PlotSeries series{.name = "s", .points = {}};
      series.joined = static_cast<Joined>(random() % 3);
      for (uint64_t p = random() % 5; p > 0; --p) {
        series.points.push_back({.x = any(), .y = any(), .low = any(), .high = any()});
        series.points.back().label = "label";
      }
      plot.series.push_back(std::move(series));
    }
    const std::string svg = draw_plot(plot);
    REQUIRE(tests::xml_error(svg) == "");
    REQUIRE(svg.find("nan") == std::string::npos);
    REQUIRE(svg.find("inf") == std::string::npos);

    Histogram histogram{.title = "t", .x = {.label = "x"}, .y = {.label = "y"}, .series = {}};
    histogram.x.log = plot.x.log;
    histogram.series.push_back({.name = "h", .bins = {{any(), any(), any()}, {any(), any(), 1}}});
    StackedBars bars{.title = "t", .x = {.label = "x"}, .parts = {"a", "b"}, .bars = {}};
    bars.bars.push_back({.name = "bar", .parts = {any(), any(), any()}});
    Timeline timeline{.title = "t", .rows = {}};
    timeline.rows.push_back({.sent_s = any(), .first_s = any(), .gaps_s = {any(), any(), any()}});
    for (const std::string& drawn :
         {draw_histogram(histogram), draw_stacked_bars(bars), draw_timeline(timeline)}) {
      REQUIRE(tests::xml_error(drawn) == "");
      INFO(drawn);
      REQUIRE(drawn.find("nan") == std::string::npos);
    }
    REQUIRE(legend_of(timeline).size() <= 8);
  }
}

TEST_CASE("cumulative shares ascend to all of the values") {
  REQUIRE(cumulative_share({}).empty());
  REQUIRE(cumulative_share({kNone}).empty());
  for (const size_t n : {1u, 2u, 7u, 499u, 500u, 501u, 10007u}) {
    CAPTURE(n);
    std::vector<double> values;
    for (size_t i = 0; i < n; ++i) values.push_back(static_cast<double>((i * 7919) % n));
    const std::vector<PlotPoint> points = cumulative_share(values);
    REQUIRE(points.size() <= 503);
    REQUIRE(points.front().y == 0);
    REQUIRE(points.back().y == 100);
    REQUIRE(points.back().x == static_cast<double>(n - 1));
    for (size_t i = 1; i < points.size(); ++i) {
      REQUIRE(points[i].x >= points[i - 1].x);
      REQUIRE(points[i].y >= points[i - 1].y);
    }
    // At a value v of 0 .. n - 1, a share of (v + 1) / n is at most as large.
    for (size_t i = 1; i + 1 < points.size(); ++i) {
      REQUIRE(points[i].y == Approx(100 * (points[i].x + 1) / static_cast<double>(n)));
    }
  }
}

TEST_CASE("stacked parts begin where the one before ends") {
  StackedBars bars{.title = "t", .x = {.label = "x"}, .parts = {"a", "b", "c"}, .bars = {}};
  bars.bars.push_back({.name = "bar", .parts = {2, -1, 3}});
  const std::string svg = draw_stacked_bars(bars);
  const std::regex form("class=\"bar f([0-9])\" d=\"M([0-9.]+) [0-9.]+H([0-9.]+)v");
  std::vector<std::pair<double, double>> parts;
  for (std::sregex_iterator it(svg.begin(), svg.end(), form), end; it != end; ++it) {
    parts.emplace_back(std::stod((*it)[2]), std::stod((*it)[3]));
  }
  REQUIRE(parts.size() == 3);
  REQUIRE(parts[2].first == Approx(parts[0].second).margin(0.02));
  REQUIRE(parts[1].second == Approx(parts[0].first).margin(0.02));
  const double unit = (parts[0].second - parts[0].first) / 2;
  REQUIRE(parts[1].second - parts[1].first == Approx(unit).margin(0.02));
  REQUIRE(parts[2].second - parts[2].first == Approx(3 * unit).margin(0.03));
}

TEST_CASE("the colours of gaps part them around their median") {
  std::vector<double> gaps(1000, 10.);
  const std::vector<double> edges = gap_edges_ms(gaps);
  REQUIRE(edges == std::vector<double>{8, 13, 16, 25, 50, 100});
  REQUIRE(gap_edges_ms({}).empty());
  REQUIRE(gap_edges_ms({0, kNone, -3}).empty());
}

}  // namespace
}  // namespace engram::tools::bench

// Drawings of amounts: histograms of several series over shared axes, and stacked bars. What is not
// finite is left out. Pure functions that return an <svg>.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/html_page.h"
#include "tools/bench/svg_axis.h"

namespace engram::tools::bench {

struct Bin {
  double low = 0;
  double high = 0;
  double share = 0;  // in percent, of all of the series
};

struct HistogramSeries {
  std::string name;
  std::vector<Bin> bins;  // in ascending order
  int colour = 0;
};

struct Histogram {
  std::string title;
  Axis x;
  Axis y;
  std::vector<HistogramSeries> series;
};
std::string draw_histogram(const Histogram& histogram);
std::vector<LegendEntry> legend_of(const Histogram& histogram);

// One horizontal bar per row: parts above 0 go to the right of it one after the other, parts below
// 0 to the left.
struct StackedBar {
  std::string name;
  std::vector<double> parts;  // [parts], as StackedBars::parts; NaN: not measured
};
struct StackedBars {
  std::string title;
  Axis x;
  std::vector<std::string> parts;
  std::vector<StackedBar> bars;
};
std::string draw_stacked_bars(const StackedBars& bars);
std::vector<LegendEntry> legend_of(const StackedBars& bars);

}  // namespace engram::tools::bench

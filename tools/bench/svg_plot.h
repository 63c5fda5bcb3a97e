// Drawings of points: lines with marks and intervals, and cumulative shares as steps. Marks differ
// in shape as well as in colour. Values that are not finite (or not positive, on a logarithmic
// axis) are left out; nothing else is refused. Pure functions that return an <svg>.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "tools/bench/html_page.h"
#include "tools/bench/svg_axis.h"

namespace engram::tools::bench {

inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

struct PlotPoint {
  double x = 0;
  double y = 0;
  double low = kNone;  // of the interval of y
  double high = kNone;
  bool doubtful = false;   // an open mark
  std::string hint = {};   // shown when the pointer rests on it
  std::string label = {};  // beside the mark, where there is room
};

enum class Joined { kNo, kLines, kSteps };

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
  int colour = 0;  // any number: the palette repeats
  int dash = 0;    // 0 to 2
  Joined joined = Joined::kLines;
  bool marks = true;
  double nudge = 0;  // pixels to the right, so that intervals at one place do not cover each other
};

struct Plot {
  std::string title;
  Axis x;
  Axis y;
  std::vector<PlotSeries> series;
  bool diagonal = false;  // the line y = x, for "served as offered"
};

std::string draw_plot(const Plot& plot);
std::vector<LegendEntry> legend_of(const Plot& plot);

// The cumulative share of `values` as steps from 0 to 100 %, in at most about 500 points.
std::vector<PlotPoint> cumulative_share(std::vector<double> values);

}  // namespace engram::tools::bench

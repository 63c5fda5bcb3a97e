#include "tools/bench/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "tools/bench/svg_frame.h"

namespace engram::tools::bench {
namespace {

constexpr int kColours = 8;
constexpr size_t kMostMarks = 80;  // a series of more points is a curve
constexpr double kCap = 4;         // half the width of an interval's ends

int colour_of(const PlotSeries& series) {
  return ((series.colour % kColours) + kColours) % kColours;
}

std::string line_class(const PlotSeries& series) {
  std::string style = std::string("line l") + std::to_string(colour_of(series));
  if (series.dash > 0) style += std::string(" dash") + std::to_string(series.dash);
  return style;
}

// Circle, square, triangle, diamond, by colour.
std::string mark_path(int shape, double x, double y) {
  const std::string at = px(x) + " " + px(y);
  switch (shape % 4) {
    case 0:
      return std::string("M") + px(x - 4) + " " + px(y) + "a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z";
    case 1:
      return std::string("M") + px(x - 3.7) + " " + px(y - 3.7) + "h7.4v7.4h-7.4z";
    case 2:
      return std::string("M") + px(x) + " " + px(y - 4.8) + "l4.6 8.2h-9.2z";
    default:
      return std::string("M") + px(x) + " " + px(y - 5.2) + "l5 5.2l-5 5.2l-5 -5.2z";
  }
}

std::string mark(const PlotSeries& series, const PlotPoint& point, double x, double y) {
  const std::string colour = std::to_string(colour_of(series));
  const std::string style = point.doubtful ? "open" : std::string("f") + colour;
  std::string out = std::string("<path class=\"") + style + " l" + colour +
                    "\" stroke-width=\"1.5\" d=\"" + mark_path(colour_of(series), x, y) + "\">";
  if (!point.hint.empty()) out += std::string("<title>") + escape_html(point.hint) + "</title>";
  return out + "</path>\n";
}

std::string interval(const PlotSeries& series, const PlotPoint& point, const Frame& frame) {
  if (!frame.y().has(point.low) || !frame.y().has(point.high)) return "";
  const double x = frame.x().pixel(point.x) + series.nudge;
  const std::string low = px(frame.y().pixel(point.low));
  const std::string high = px(frame.y().pixel(point.high));
  const std::string cap = std::string("h") + px(2 * kCap);
  return std::string("<path class=\"interval line l") + std::to_string(colour_of(series)) +
         "\" d=\"M" + px(x) + " " + low + "V" + high + "M" + px(x - kCap) + " " + low + cap + "M" +
         px(x - kCap) + " " + high + cap + "\"/>\n";
}

bool shown(const PlotPoint& point, const Frame& frame) {
  return frame.x().has(point.x) && frame.y().has(point.y);
}

bool has_marks(const PlotSeries& series) {
  if (series.joined == Joined::kNo) return true;
  return series.marks && series.points.size() <= kMostMarks;
}

std::string joining_line(const PlotSeries& series, const Frame& frame) {
  std::string d;
  bool begun = false;
  for (const PlotPoint& point : series.points) {
    if (!shown(point, frame)) {
      begun = false;  // a gap, not a line across what was not measured
      continue;
    }
    const std::string x = px(frame.x().pixel(point.x) + series.nudge);
    const std::string y = px(frame.y().pixel(point.y));
    if (!begun) {
      d += std::string("M") + x + " " + y;
    } else if (series.joined == Joined::kSteps) {
      d += std::string("H") + x + "V" + y;
    } else {
      d += std::string("L") + x + " " + y;
    }
    begun = true;
  }
  return d.empty() ? ""
                   : std::string("<path class=\"") + line_class(series) + "\" d=\"" + d + "\"/>\n";
}

std::string draw_series(const PlotSeries& series, const Frame& frame) {
  std::string out;
  if (series.joined != Joined::kNo) out += joining_line(series, frame);
  const bool marks = has_marks(series);
  for (const PlotPoint& point : series.points) {
    if (!shown(point, frame)) continue;
    out += interval(series, point, frame);
    const double x = frame.x().pixel(point.x) + series.nudge;
    if (marks) out += mark(series, point, x, frame.y().pixel(point.y));
  }
  return out;
}

Frame frame_of(const Plot& plot) {
  RangeFinder x(plot.x.log);
  RangeFinder y(plot.y.log);
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      x.add(point.x);
      for (const double value : {point.y, point.low, point.high}) y.add(value);
    }
  }
  return {plot.x, x.range(), plot.y, y.range()};
}

// A curve where only one of the axes is logarithmic.
std::string diagonal(const Frame& frame) {
  constexpr int kPieces = 60;
  const double low = std::max(frame.x().low(), frame.y().low());
  const double high = std::min(frame.x().high(), frame.y().high());
  if (!(low < high)) return "";
  std::string d;
  for (int i = 0; i <= kPieces; ++i) {
    const double at = low + (high - low) * i / kPieces;
    d += i == 0 ? "M" : "L";
    d += px(frame.x().pixel(at)) + " " + px(frame.y().pixel(at));
  }
  return std::string("<path class=\"line frame dash2\" d=\"") + d + "\"/>\n";
}

// Labels beside marks, each only where it covers no earlier one.
class Labels {
 public:
  explicit Labels(const Frame& frame) : frame_(frame) {}
  void add(const PlotPoint& point) {
    if (point.label.empty() || !shown(point, frame_)) return;
    const double y = frame_.y().pixel(point.y) - 7;
    const double width = text_width(point.label);
    double x = frame_.x().pixel(point.x) + 6;
    if (x + width > frame_.right()) x -= width + 12;
    for (const Box& box : taken_) {
      const bool apart_x = x > box.x + box.width + 3 || x + width + 3 < box.x;
      const bool apart_y = std::abs(y - box.y) > kLineHeight;
      if (!apart_x && !apart_y) return;
    }
    taken_.push_back({x, y, width});
    markup_ += svg_text(x, y, "start", point.label);
  }
  std::string markup() const {
    return markup_.empty() ? "" : std::string("<g class=\"halo\">") + markup_ + "</g>\n";
  }

 private:
  static constexpr double kLineHeight = 14;
  struct Box {
    double x;
    double y;
    double width;
  };
  const Frame& frame_;
  std::vector<Box> taken_;
  std::string markup_;
};

}  // namespace

std::string draw_plot(const Plot& plot) {
  const Frame frame = frame_of(plot);
  std::string body = frame.axes();
  if (plot.diagonal) body += diagonal(frame);
  Labels labels(frame);
  for (const PlotSeries& series : plot.series) {
    body += draw_series(series, frame);
    for (const PlotPoint& point : series.points) labels.add(point);
  }
  body += labels.markup();
  return svg_document(plot.title, kPlotHeight, body);
}

std::vector<LegendEntry> legend_of(const Plot& plot) {
  std::vector<LegendEntry> legend;
  bool doubtful = false;
  for (const PlotSeries& series : plot.series) {
    std::string swatch;
    if (series.joined != Joined::kNo) {
      swatch = std::string("<path class=\"") + line_class(series) + "\" d=\"M1 7H29\"/>";
    }
    if (has_marks(series)) {
      swatch += mark(series, PlotPoint{}, 15, 7);
    }
    legend.push_back({series.name, svg_swatch(swatch)});
    for (const PlotPoint& point : series.points) doubtful = doubtful || point.doubtful;
  }
  if (doubtful) {
    legend.push_back(
        {"open mark: a run not to be trusted, see the warnings",
         svg_swatch(
             std::string("<path class=\"open frame\" d=\"") + mark_path(0, 15, 7) + "\"/>")});
  }
  if (plot.diagonal) {
    legend.push_back({"y = x", svg_swatch("<path class=\"line frame dash2\" d=\"M1 7H29\"/>")});
  }
  return legend;
}

std::vector<PlotPoint> cumulative_share(std::vector<double> values) {
  constexpr size_t kMostPoints = 500;
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  std::sort(values.begin(), values.end());
  std::vector<PlotPoint> points;
  if (values.empty()) return points;
  const size_t stride = (values.size() + kMostPoints - 1) / kMostPoints;
  points.push_back({.x = values.front(), .y = 0});
  for (size_t i = 0; i < values.size(); i += stride) {
    const double share = static_cast<double>(i + 1) / static_cast<double>(values.size());
    points.push_back({.x = values[i], .y = 100 * share});
  }
  points.push_back({.x = values.back(), .y = 100});
  return points;
}

}  // namespace engram::tools::bench

#include "tools/bench/svg_bars.h"

#include <algorithm>
#include <cmath>

#include "tools/bench/number_text.h"
#include "tools/bench/svg_frame.h"

namespace engram::tools::bench {
namespace {

constexpr int kColours = 8;
// A line for the name, however long it is, and the bar below it.
constexpr double kRowHeight = 38;
constexpr double kNameHeight = 18;
constexpr double kBarHeight = 16;
constexpr double kLeft = 14;

std::string colour_class(const char* kind, int colour) {
  return kind + std::to_string(((colour % kColours) + kColours) % kColours);
}

std::string swatch_of(int colour) {
  return svg_swatch(
      std::string("<path class=\"") + colour_class("f", colour) + "\" d=\"M4 1h22v12h-22z\"/>");
}

// The outline of the bins over the base line, closed at both ends.
std::string outline(const HistogramSeries& series, const Frame& frame) {
  std::string d;
  const std::string base = px(frame.bottom());
  double end = kPlotWidth * 2;
  for (const Bin& bin : series.bins) {
    const bool good = std::isfinite(bin.low) && std::isfinite(bin.high) && frame.y().has(bin.share);
    if (!good || !frame.x().has(bin.high)) continue;
    const double left = frame.x().has(bin.low) ? frame.x().pixel(bin.low) : frame.left();
    const double right = frame.x().pixel(bin.high);
    if (std::abs(left - end) > 0.01) {
      if (!d.empty()) d += std::string("V") + base;
      d += std::string("M") + px(left) + " " + base;
    }
    d += std::string("V") + px(frame.y().pixel(bin.share)) + "H" + px(right);
    end = right;
  }
  return d.empty() ? d : d + "V" + base;
}

// A bin that begins at 0 has no place on a logarithmic axis but its edge: half of where it ends.
double visible_low(const Bin& bin, bool log) {
  return log && bin.low <= 0 ? bin.high / 2 : bin.low;
}

std::string bar_part(
    const Frame& frame, double from, double to, double top, int colour, const std::string& hint) {
  const double left = frame.x().pixel(std::min(from, to));
  const double right = frame.x().pixel(std::max(from, to));
  return std::string("<path class=\"bar ") + colour_class("f", colour) + "\" d=\"M" + px(left) +
         " " + px(top) + "H" + px(right) + "v" + px(kBarHeight) + "H" + px(left) + "z\"><title>" +
         escape_html(hint) + "</title></path>";
}

std::string draw_bar(
    const StackedBars& bars, const StackedBar& bar, const Frame& frame, double top) {
  std::string out = "<g class=\"halo\">";
  out += svg_text(frame.left() + 4, top + kNameHeight - 5, "start", bar.name) + "</g>";
  double above = 0;
  double below = 0;
  for (size_t i = 0; i < std::min(bar.parts.size(), bars.parts.size()); ++i) {
    const double part = bar.parts[i];
    if (!std::isfinite(part) || part == 0) continue;
    double& edge = part > 0 ? above : below;
    out += bar_part(
        frame, edge, edge + part, top + kNameHeight, static_cast<int>(i),
        bars.parts[i] + ": " + short_number(part));
    edge += part;
  }
  return out + "\n";
}

}  // namespace

std::string draw_histogram(const Histogram& histogram) {
  RangeFinder x(histogram.x.log);
  RangeFinder y(histogram.y.log);
  for (const HistogramSeries& series : histogram.series) {
    for (const Bin& bin : series.bins) {
      x.add(visible_low(bin, histogram.x.log));
      x.add(bin.high);
      y.add(bin.share);
    }
  }
  const Frame frame(histogram.x, x.range(), histogram.y, y.range());
  std::string body = frame.axes();
  for (const HistogramSeries& series : histogram.series) {
    const std::string d = outline(series, frame);
    if (d.empty()) continue;
    body += std::string("<path class=\"wash ") + colour_class("f", series.colour) + "\" d=\"" + d +
            "\"/>";
    body += std::string("<path class=\"line ") + colour_class("l", series.colour) + "\" d=\"" + d +
            "\"/>\n";
  }
  return svg_document(histogram.title, kPlotHeight, body);
}

std::vector<LegendEntry> legend_of(const Histogram& histogram) {
  std::vector<LegendEntry> legend;
  for (const HistogramSeries& series : histogram.series) {
    legend.push_back({series.name, swatch_of(series.colour)});
  }
  return legend;
}

std::string draw_stacked_bars(const StackedBars& bars) {
  RangeFinder x(false);
  for (const StackedBar& bar : bars.bars) {
    double above = 0;
    double below = 0;
    for (const double part : bar.parts) {
      if (std::isfinite(part)) (part > 0 ? above : below) += part;
    }
    x.add(above);
    x.add(below);
  }
  const double rows = static_cast<double>(std::max<size_t>(1, bars.bars.size()));
  const double height = rows * kRowHeight + 62;
  Axis axis = bars.x;
  axis.zero = true;
  const Frame frame(axis, x.range(), kLeft, height);
  std::string body = frame.axes();
  const std::string zero = px(frame.x().pixel(0));
  body += std::string("<path class=\"zero\" d=\"M") + zero + " " + px(frame.top()) + "V" +
          px(frame.bottom()) + "\"/>\n";
  double top = frame.top();
  for (const StackedBar& bar : bars.bars) {
    body += draw_bar(bars, bar, frame, top);
    top += kRowHeight;
  }
  return svg_document(bars.title, height, body);
}

std::vector<LegendEntry> legend_of(const StackedBars& bars) {
  std::vector<LegendEntry> legend;
  for (size_t i = 0; i < bars.parts.size(); ++i) {
    legend.push_back({bars.parts[i], swatch_of(static_cast<int>(i))});
  }
  return legend;
}

}  // namespace engram::tools::bench

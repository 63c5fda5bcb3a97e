#include "tools/bench/svg_timeline.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/bench/number_text.h"
#include "tools/bench/statistics.h"
#include "tools/bench/svg_axis.h"
#include "tools/bench/svg_frame.h"

namespace engram::tools::bench {
namespace {

constexpr size_t kColours = 7;
constexpr double kLeft = 60;
constexpr double kMargins = 62;       // above and below the rows
constexpr double kLeastHeight = 260;  // for the label beside the rows
constexpr size_t kMostGapsForEdges = 200000;

std::vector<double> all_gaps_ms(const Timeline& timeline) {
  std::vector<double> gaps;
  for (const TimelineRow& row : timeline.rows) {
    for (const double gap : row.gaps_s) {
      if (std::isfinite(gap) && gaps.size() < kMostGapsForEdges) gaps.push_back(1e3 * gap);
    }
  }
  return gaps;
}

double row_height(size_t rows) {
  return std::clamp(360. / static_cast<double>(std::max<size_t>(1, rows)), 1.5, 12.);
}

double end_of(const TimelineRow& row) {
  double end = std::max(row.sent_s, row.first_s);
  for (const double gap : row.gaps_s) end += std::isfinite(gap) ? gap : 0;
  return end;
}

// One path per colour, for all rows: much less markup than one element per gap.
struct Paths {
  std::array<std::string, kColours> gaps;
  std::string waiting;
};

double two_digits(double value) {
  const double unit = std::pow(10., std::floor(std::log10(value)) - 1);
  return std::round(value / unit) * unit;
}

std::string box(double left, double right, double top, double height) {
  return std::string("M") + px(left) + " " + px(top) + "h" + px(right - left) + "v" + px(height) +
         "h" + px(left - right) + "z";
}

void add_row(
    const TimelineRow& row,
    const std::vector<double>& edges_ms,
    const Frame& frame,
    double top,
    double height,
    Paths* paths) {
  if (!std::isfinite(row.sent_s)) return;
  const double sent = frame.x().pixel(row.sent_s);
  // At least this wide, so that even the shortest request is seen.
  constexpr double kLeast = 1.5;
  if (!(row.first_s >= row.sent_s)) {
    paths->waiting += box(sent, sent + kLeast, top, height);
    return;
  }
  double at = row.first_s;
  double begun = frame.x().pixel(at);
  paths->waiting += box(sent, begun, top, height);
  size_t worst = 0;
  size_t colour = kColours;  // of the box that is being drawn; kColours: none yet
  double drawn_to = begun;
  for (const double gap : row.gaps_s) {
    if (!std::isfinite(gap) || gap < 0) continue;
    at += gap;
    const size_t here = static_cast<size_t>(
        std::upper_bound(edges_ms.begin(), edges_ms.end(), 1e3 * gap) - edges_ms.begin());
    worst = std::max(worst, here);
    const double to = frame.x().pixel(at);
    if (to - drawn_to < 0.7) continue;  // too narrow to be seen: the worst of them stands for all
    if (worst != colour && colour != kColours) {
      paths->gaps[colour] += box(begun, drawn_to, top, height);
      begun = drawn_to;
    }
    colour = worst;
    worst = 0;
    drawn_to = to;
  }
  if (colour != kColours) {
    paths->gaps[colour] += box(begun, drawn_to, top, height);
  } else {
    std::string& d = row.gaps_s.empty() ? paths->waiting : paths->gaps[worst];
    d += box(begun, begun + kLeast, top, height);
  }
}

std::string colour_path(const std::string& style, const std::string& d) {
  return d.empty() ? "" : std::string("<path class=\"") + style + "\" d=\"" + d + "\"/>\n";
}

}  // namespace

std::vector<double> gap_edges_ms(std::vector<double> gaps_ms) {
  std::erase_if(gaps_ms, [](double gap) { return !std::isfinite(gap) || gap <= 0; });
  if (gaps_ms.empty()) return {};
  const double median = quantile(gaps_ms, 0.5);
  std::vector<double> edges;
  for (const double factor : {0.8, 1.25, 1.6, 2.5, 5., 10.}) {
    edges.push_back(two_digits(factor * median));
  }
  return edges;
}

std::string draw_timeline(const Timeline& timeline) {
  RangeFinder seconds(false);
  seconds.add(0);
  for (const TimelineRow& row : timeline.rows) seconds.add(end_of(row));
  const double height = row_height(timeline.rows.size());
  const double rows = static_cast<double>(std::max<size_t>(1, timeline.rows.size()));
  const double total = std::max(height * rows + kMargins, kLeastHeight);
  const Axis axis{.label = "time since the start of the run (s)", .zero = true};
  const Frame frame(axis, seconds.range(), kLeft, total);
  const std::vector<double> edges = gap_edges_ms(all_gaps_ms(timeline));
  Paths paths;
  double top = frame.top();
  for (const TimelineRow& row : timeline.rows) {
    add_row(row, edges, frame, top, height * (height > 3 ? 0.8 : 1), &paths);
    top += height;
  }
  std::string body = frame.axes() + colour_path("wait", paths.waiting);
  for (size_t i = 0; i < kColours; ++i) {
    body += colour_path(std::string("h") + std::to_string(i), paths.gaps[i]);
  }
  body += std::string("<g transform=\"translate(14 ") + px((frame.top() + frame.bottom()) / 2) +
          ") rotate(-90)\">" + svg_text(0, 0, "middle", "requests, in order of sending") + "</g>\n";
  return svg_document(timeline.title, total, body);
}

std::vector<LegendEntry> legend_of(const Timeline& timeline) {
  const std::vector<double> edges = gap_edges_ms(all_gaps_ms(timeline));
  const auto swatch = [](const std::string& style) {
    return svg_swatch(std::string("<path class=\"") + style + "\" d=\"M4 1h22v12h-22z\"/>");
  };
  std::vector<LegendEntry> legend = {{"waits for its first token", swatch("wait")}};
  for (size_t i = 0; i <= edges.size(); ++i) {
    std::string name = "gap ";
    if (edges.empty()) {
      name += "of any length";
    } else if (i == 0) {
      name += std::string("below ") + axis_number(edges[0], false) + " ms";
    } else if (i == edges.size()) {
      name += std::string("from ") + axis_number(edges[i - 1], false) + " ms";
    } else {
      name += axis_number(edges[i - 1], false) + " to " + axis_number(edges[i], false) + " ms";
    }
    legend.push_back({name, swatch(std::string("h") + std::to_string(i))});
  }
  return legend;
}

}  // namespace engram::tools::bench

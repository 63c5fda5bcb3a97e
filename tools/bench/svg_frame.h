// The part that all drawings share: a canvas, axes with ticks and labels, the mapping to pixels.
#pragma once

#include <string>
#include <string_view>

#include "tools/bench/svg_axis.h"

namespace engram::tools::bench {

inline constexpr double kPlotWidth = 620;
inline constexpr double kPlotHeight = 320;

struct Range {
  double low = 0;
  double high = 1;
};

// Gathers the range of what is shown; 0..1 (1..10 where logarithmic) when there is nothing.
class RangeFinder {
 public:
  explicit RangeFinder(bool log) : log_(log) {}
  void add(double value);
  Range range() const;

 private:
  bool log_;
  bool any_ = false;
  Range range_;
};

// The area between the axes. Margins fit the labels of the ticks.
class Frame {
 public:
  // `row_labels` is the room in pixels that labels of rows take at the left, instead of y's ticks.
  Frame(const Axis& x, Range x_range, const Axis& y, Range y_range, double height = kPlotHeight);
  Frame(const Axis& x, Range x_range, double row_labels, double height);

  double left() const { return left_; }
  double right() const { return right_; }
  double top() const { return top_; }
  double bottom() const { return bottom_; }
  const Scale& x() const { return x_; }
  const Scale& y() const { return y_; }

  // Grid, ticks, labels of the axes.
  std::string axes() const;

 private:
  std::string x_axis() const;
  std::string y_axis() const;

  Axis x_axis_;
  Axis y_axis_;
  bool rows_ = false;
  double left_ = 0;
  double right_ = 0;
  double top_ = 0;
  double bottom_ = 0;
  Scale x_;
  Scale y_;
};

// Pixels with two digits behind the point at most.
std::string px(double pixels);
// Room in pixels that `text` takes at the style's size, about.
double text_width(std::string_view text);
// "middle", "start" or "end" at (x, y); escapes the text.
std::string svg_text(double x, double y, const char* anchor, std::string_view text);
// The <svg> around `body`; `title` is what a reader of the page is told instead.
std::string svg_document(const std::string& title, double height, const std::string& body);
// A small one for a legend.
std::string svg_swatch(const std::string& body);

}  // namespace engram::tools::bench

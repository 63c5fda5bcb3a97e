#include "tools/bench/svg_frame.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tools/bench/html_page.h"

namespace engram::tools::bench {
namespace {

constexpr double kTop = 12;
constexpr double kRight = 602;
constexpr double kBelow = 46;  // ticks and label of the x axis
constexpr int kYTicks = 7;
constexpr int kXTicks = 10;

double widest_tick(const Scale& scale) {
  double widest = 0;
  for (const Tick& tick : scale.ticks(kYTicks)) widest = std::max(widest, text_width(tick.text));
  return widest;
}

double left_margin(const Axis& y, Range range) {
  return 34 + widest_tick(Scale(y, range.low, range.high, 1, 0));
}

std::string svg_line(double x1, double y1, double x2, double y2, const char* style) {
  return "<path class=\"" + std::string(style) + "\" d=\"M" + px(x1) + " " + px(y1) + "L" + px(x2) +
         " " + px(y2) + "\"/>";
}

}  // namespace

void RangeFinder::add(double value) {
  if (!std::isfinite(value) || (log_ && value <= 0)) return;
  range_.low = any_ ? std::min(range_.low, value) : value;
  range_.high = any_ ? std::max(range_.high, value) : value;
  any_ = true;
}

Range RangeFinder::range() const {
  if (any_) return range_;
  return log_ ? Range{1, 10} : Range{0, 1};
}

Frame::Frame(const Axis& x, Range x_range, const Axis& y, Range y_range, double height)
    : x_axis_(x),
      y_axis_(y),
      left_(left_margin(y, y_range)),
      right_(kRight),
      top_(kTop),
      bottom_(height - kBelow),
      x_(x, x_range.low, x_range.high, left_, right_),
      y_(y, y_range.low, y_range.high, bottom_, top_) {}

Frame::Frame(const Axis& x, Range x_range, double row_labels, double height)
    : x_axis_(x),
      rows_(true),
      left_(row_labels),
      right_(kRight),
      top_(kTop),
      bottom_(height - kBelow),
      x_(x, x_range.low, x_range.high, left_, right_),
      y_(Axis{}, 0, 1, bottom_, top_) {}

std::string Frame::axes() const {
  std::string out = x_axis();
  if (!rows_) out += y_axis();
  out += "<path class=\"frame\" d=\"M" + px(left_) + " " + px(top_) + "V" + px(bottom_) + "H" +
         px(right_) + "\"/>\n";
  return out;
}

std::string Frame::x_axis() const {
  std::string out;
  double free_from = -1e9;
  for (const Tick& tick : x_.ticks(kXTicks)) {
    if (!x_.has(tick.at) || tick.at < x_.low() || tick.at > x_.high()) continue;
    const double at = x_.pixel(tick.at);
    out += svg_line(at, top_, at, bottom_, "grid");
    const double half = text_width(tick.text) / 2;
    if (at - half < free_from) continue;  // its label would lie on its neighbour's
    out += svg_text(at, bottom_ + 17, "middle", tick.text);
    free_from = at + half + 8;
  }
  const double middle = (left_ + right_) / 2;
  return out + svg_text(middle, bottom_ + 38, "middle", x_axis_.label) + "\n";
}

std::string Frame::y_axis() const {
  std::string out;
  double free_to = 1e9;
  for (const Tick& tick : y_.ticks(kYTicks)) {
    if (!y_.has(tick.at) || tick.at < y_.low() || tick.at > y_.high()) continue;
    const double at = y_.pixel(tick.at);
    const bool zero = tick.at == 0 && y_.low() < 0;
    out += svg_line(left_, at, right_, at, zero ? "zero" : "grid");
    if (at > free_to) continue;
    out += svg_text(left_ - 6, at + 4.5, "end", tick.text);
    free_to = at - 14;
  }
  const double middle = (top_ + bottom_) / 2;
  out += "<g transform=\"translate(14 " + px(middle) + ") rotate(-90)\">" +
         svg_text(0, 0, "middle", y_axis_.label) + "</g>\n";
  return out;
}

std::string px(double pixels) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", std::clamp(pixels, -1e6, 1e6));
  std::string out = text;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

double text_width(std::string_view text) {
  // Bytes that begin a character; wide letters are not common in labels.
  const int64_t characters =
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return 7.2 * static_cast<double>(characters);
}

std::string svg_text(double x, double y, const char* anchor, std::string_view text) {
  return "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\" text-anchor=\"" + anchor + "\">" +
         escape_html(text) + "</text>";
}

std::string svg_document(const std::string& title, double height, const std::string& body) {
  return "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 " + px(kPlotWidth) + " " + px(height) +
         "\"><title>" + escape_html(title) + "</title>\n" + body + "</svg>\n";
}

std::string svg_swatch(const std::string& body) {
  return "<svg width=\"30\" height=\"14\" viewBox=\"0 0 30 14\" aria-hidden=\"true\">" + body +
         "</svg>";
}

}  // namespace engram::tools::bench

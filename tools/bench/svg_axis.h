// Axes of a drawing: which values get a tick, and where a value lies in pixels. Pure functions.
#pragma once

#include <string>
#include <vector>

namespace engram::tools::bench {

struct Tick {
  double at = 0;
  std::string text;
};

struct Axis {
  std::string label;             // with its unit: "TTFT (ms)"
  bool log = false;              // values that are not positive are left out
  bool zero = false;             // the range holds 0
  bool billions = false;         // 1e9 is written 1B, as for parameters
  std::vector<Tick> ticks = {};  // given ones, as batch sizes; empty: round numbers
};

// Multiples of 1, 2 or 5 times a power of ten within [low, high], as many as fit up to
// `most`. Both finite, low <= high.
std::vector<double> linear_ticks(double low, double high, int most);
// Of the powers of ten (times 1, 2 and 5 where few), those within [low, high]; 0 < low <= high.
std::vector<double> log_ticks(double low, double high, int most);

// Maps a range of values onto a range of pixels.
class Scale {
 public:
  // A range that holds [low, high] and some room around it. Pixels may run downwards.
  Scale(const Axis& axis, double low, double high, double pixel_low, double pixel_high);

  double pixel(double value) const;  // values outside are held at the edge
  bool has(double value) const;      // finite, and positive where logarithmic
  double low() const { return low_; }
  double high() const { return high_; }
  std::vector<Tick> ticks(int most) const;

 private:
  Axis axis_;
  double low_ = 0;
  double high_ = 1;
  double pixel_low_ = 0;
  double pixel_high_ = 1;
};

}  // namespace engram::tools::bench

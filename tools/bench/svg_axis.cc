#include "tools/bench/svg_axis.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tools/bench/number_text.h"

namespace engram::tools::bench {
namespace {

// What an axis shows at most: beyond it differences and quotients would overflow.
constexpr double kLargest = 1e300;
constexpr double kSmallest = 1e-300;

// Multiples of `step` within the range; `most` + 1 of them at most.
std::vector<double> multiples(double low, double high, double step, int most) {
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i <= most; ++i) {
    const double at = (first + i) * step;
    if (at > high + step * 1e-9) break;
    ticks.push_back(at == 0 ? 0 : at);  // never "-0"
  }
  return ticks;
}

std::vector<double> decades(double low, double high, std::initializer_list<double> factors) {
  std::vector<double> ticks;
  const int first = static_cast<int>(std::floor(std::log10(low)));
  const int last = static_cast<int>(std::ceil(std::log10(high)));
  for (int power = first; power <= last; ++power) {
    for (const double factor : factors) {
      const double at = factor * std::pow(10., power);
      if (at >= low * (1 - 1e-9) && at <= high * (1 + 1e-9)) ticks.push_back(at);
    }
  }
  return ticks;
}

}  // namespace

std::vector<double> linear_ticks(double low, double high, int most) {
  const double span = high - low;
  // A range too narrow for distinct ticks, as of one huge value.
  const double least = 1e-12 * std::max({std::abs(low), std::abs(high), kSmallest});
  if (!(span > least) || !std::isfinite(span)) return {low};
  // The finest step that does not give too many.
  const double finest = std::pow(10., std::floor(std::log10(span / std::max(1, most))));
  std::vector<double> ticks;
  for (const double factor : {1., 2., 5., 10., 20., 50.}) {
    ticks = multiples(low, high, factor * finest, most);
    if (static_cast<int>(ticks.size()) <= most) break;
  }
  return ticks;
}

std::vector<double> log_ticks(double low, double high, int most) {
  const size_t limit = static_cast<size_t>(std::max(2, most));
  std::vector<double> ticks = decades(low, high, {1., 2., 5.});
  if (ticks.size() > limit) ticks = decades(low, high, {1.});
  if (ticks.size() > limit) {
    const size_t stride = (ticks.size() + limit - 1) / limit;
    std::vector<double> fewer;
    for (size_t i = 0; i < ticks.size(); i += stride) fewer.push_back(ticks[i]);
    return fewer;
  }
  if (ticks.size() >= 2) return ticks;
  return linear_ticks(low, high, most);
}

Scale::Scale(const Axis& axis, double low, double high, double pixel_low, double pixel_high)
    : axis_(axis), pixel_low_(pixel_low), pixel_high_(pixel_high) {
  if (axis.zero && !axis.log) {
    low = std::min(low, 0.);
    high = std::max(high, 0.);
  }
  if (axis.log) {
    low_ = std::clamp(low, kSmallest, kLargest);
    high_ = std::clamp(high, low_, kLargest);
    // In logarithms: the quotient of the ends may be more than a double holds.
    const double span = std::log(high_) - std::log(low_);
    const double room = std::max(std::exp(0.04 * span), span > 0.01 ? 1.02 : 1.5);
    low_ = std::max(low_ / room, kSmallest / 10);
    high_ = std::min(high_ * room, kLargest * 10);
    return;
  }
  low_ = std::clamp(low, -kLargest, kLargest);
  high_ = std::clamp(high, low_, kLargest);
  double room = 0.05 * (high_ - low_);
  if (room <= 1e-9 * std::max(std::abs(low_), std::abs(high_))) {
    room = std::abs(low_) < kSmallest ? 1 : 0.1 * std::abs(low_);
  }
  // A range that begins or ends at 0 shows no values beyond it.
  const bool point = low_ == high_;
  if (!(axis.zero && low_ == 0)) low_ -= room;
  if (!(axis.zero && high_ == 0) || point) high_ += room;
}

bool Scale::has(double value) const {
  return std::isfinite(value) && (!axis_.log || value > 0);
}

double Scale::pixel(double value) const {
  double share = 0;
  if (axis_.log) {
    share = (std::log(std::max(value, kSmallest / 10)) - std::log(low_)) /
            (std::log(high_) - std::log(low_));
  } else {
    share = (value - low_) / (high_ - low_);
  }
  return pixel_low_ + std::clamp(share, 0., 1.) * (pixel_high_ - pixel_low_);
}

std::vector<Tick> Scale::ticks(int most) const {
  if (!axis_.ticks.empty()) return axis_.ticks;
  std::vector<Tick> ticks;
  const std::vector<double> at =
      axis_.log ? log_ticks(low_, high_, most) : linear_ticks(low_, high_, most);
  for (const double value : at) ticks.push_back({value, axis_number(value, axis_.billions)});
  // Values that differ far behind the point.
  const auto same = [](const Tick& a, const Tick& b) { return a.text == b.text; };
  if (std::adjacent_find(ticks.begin(), ticks.end(), same) != ticks.end()) {
    for (Tick& tick : ticks) tick.text = fine_number(tick.at);
  }
  return ticks;
}

}  // namespace engram::tools::bench

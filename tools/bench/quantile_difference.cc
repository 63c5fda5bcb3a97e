#include "tools/bench/quantile_difference.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace engram::tools::bench {
namespace {

constexpr int kResamples = 4000;

// Draws the quantile of resamples of a sorted set: the k-th smallest of n uniform draws is
// distributed as beta(k, n + 1 - k).
class Resampled {
 public:
  Resampled(const std::vector<double>& sorted, double share)
      : sorted_(sorted),
        low_(share * (static_cast<double>(sorted.size()) - 1) + 1, 1),
        high_((1 - share) * (static_cast<double>(sorted.size()) - 1) + 1, 1) {}

  double draw(std::mt19937_64& random) {
    const double below = low_(random);
    const double above = high_(random);
    const double place = below / (below + above) * static_cast<double>(sorted_.size());
    return sorted_[std::min(static_cast<size_t>(place), sorted_.size() - 1)];
  }

 private:
  const std::vector<double>& sorted_;
  std::gamma_distribution<double> low_;
  std::gamma_distribution<double> high_;
};

bool enough(const std::vector<double>& values, double share) {
  const double n = static_cast<double>(values.size());
  const double beyond = n * std::min(share, 1 - share);
  return share == 0.5 ? n >= 4 : beyond >= kFewestBeyond;
}

void keep_finite(std::vector<double>* values) {
  std::erase_if(*values, [](double value) { return !std::isfinite(value); });
  std::sort(values->begin(), values->end());
}

}  // namespace

std::optional<Estimate> compare_quantiles(
    std::vector<double> a, std::vector<double> b, double share, Between between) {
  keep_finite(&a);
  keep_finite(&b);
  if (!enough(a, share) || !enough(b, share)) return std::nullopt;
  if (between == Between::kRatio && !(a.front() > 0)) return std::nullopt;
  const auto compare = [between](double of_a, double of_b) {
    return between == Between::kRatio ? of_b / of_a : of_b - of_a;
  };
  // The same files give the same interval.
  std::mt19937_64 random(a.size() * 31 + b.size());
  Resampled from_a(a, share);
  Resampled from_b(b, share);
  std::vector<double> differences(kResamples);
  for (double& difference : differences) {
    const double of_a = from_a.draw(random);
    difference = compare(of_a, from_b.draw(random));
  }
  const size_t fewer = std::min(a.size(), b.size());
  const double level = lower_level(fewer);
  return Estimate{
      .value = compare(quantile(a, share), quantile(b, share)),
      .low = quantile(differences, level),
      .high = quantile(differences, 1 - level),
      .rounds = static_cast<int>(fewer)};
}

}  // namespace engram::tools::bench

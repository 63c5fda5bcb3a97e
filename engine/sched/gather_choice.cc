#include "engine/sched/gather_choice.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace engram::engine {
namespace {

GatherWay fastest(const GatherTimes& times) {
  constexpr double kWorthLeaving = 0.95;
  std::optional<GatherWay> best;
  double least = 0;
  for (const GatherWay way : kGatherWays) {
    const std::optional<double> us = times.us[static_cast<size_t>(way)];
    if (!us || (best && *us >= kWorthLeaving * least)) continue;
    best = way;
    least = *us;
  }
  ENGRAM_CHECK(best.has_value());
  return *best;
}

// The least number of tokens that is nearer to `b` than to `a`, by ratio.
int64_t border(int64_t a, int64_t b) {
  return static_cast<int64_t>(
      std::ceil(std::sqrt(static_cast<double>(a) * static_cast<double>(b))));
}

}  // namespace

const char* gather_way_name(GatherWay way) {
  switch (way) {
    case GatherWay::kLoads:
      return "loads";
    case GatherWay::kBulk:
      return "bulk";
    case GatherWay::kDistinct:
      return "distinct";
    case GatherWay::kHost:
      return "host";
  }
  return "";
}

memory::Result<std::optional<GatherWay>> parse_gather_way(const std::string& name) {
  if (name == "auto") return std::optional<GatherWay>();
  std::string list = "auto";
  for (const GatherWay way : kGatherWays) {
    if (name == gather_way_name(way)) return std::optional<GatherWay>(way);
    list.append(", ").append(gather_way_name(way));
  }
  return memory::invalid_argument("--ngram-gather must be one of " + list + ", got " + name);
}

GatherChoice::GatherChoice(std::span<const GatherTimes> measured) {
  ENGRAM_CHECK(!measured.empty());
  for (size_t i = 0; i < measured.size(); ++i) {
    const GatherWay way = fastest(measured[i]);
    if (i > 0) ENGRAM_CHECK(measured[i - 1].tokens < measured[i].tokens);
    if (!steps_.empty() && steps_.back().way == way) continue;
    steps_.push_back({i == 0 ? 0 : border(measured[i - 1].tokens, measured[i].tokens), way});
  }
}

GatherWay GatherChoice::way(int64_t tokens) const {
  const auto after = std::ranges::upper_bound(steps_, tokens, {}, &Step::tokens);
  return after == steps_.begin() ? steps_.front().way : std::prev(after)->way;
}

std::string GatherChoice::text() const {
  std::string text = gather_way_name(steps_.front().way);
  for (size_t i = 1; i < steps_.size(); ++i) {
    text +=
        "; from " + std::to_string(steps_[i].tokens) + " tokens " + gather_way_name(steps_[i].way);
  }
  return text;
}

std::vector<int64_t> gather_sizes(int64_t most) {
  std::vector<int64_t> sizes;
  for (const int64_t size : {1, 8, 64, 512, 8192}) {
    const int64_t tokens = std::min<int64_t>(size, most);
    if (tokens > 0 && (sizes.empty() || sizes.back() < tokens)) sizes.push_back(tokens);
  }
  return sizes;
}

std::vector<GatherTimes> measure_gathers(
    std::span<const int64_t> sizes,
    std::span<const GatherWay> ways,
    double budget_us,
    const std::function<double(GatherWay, int64_t tokens)>& measure) {
  std::vector<GatherTimes> measured;
  double spent_us = 0;
  for (const int64_t size : sizes) {
    if (!measured.empty() && spent_us > budget_us) break;
    GatherTimes& times = measured.emplace_back();
    times.tokens = size;
    for (const GatherWay way : ways) {
      const double us = measure(way, size);
      times.us[static_cast<size_t>(way)] = us;
      spent_us += kGatherRepeats * us;
    }
  }
  return measured;
}

std::string gather_times_text(std::span<const GatherTimes> measured) {
  std::string text;
  for (const GatherTimes& times : measured) {
    text += (text.empty() ? "" : "; ") + std::to_string(times.tokens) + ":";
    const char* before = " ";
    for (const GatherWay way : kGatherWays) {
      const std::optional<double> us = times.us[static_cast<size_t>(way)];
      if (!us) continue;
      char number[32];
      std::snprintf(number, sizeof(number), "%.1f", *us);
      text.append(before).append(gather_way_name(way)).append(" ").append(number);
      before = ", ";
    }
  }
  return text;
}

}  // namespace engram::engine

// Two runs of the same kind beside each other: what they were set up with differently, and each
// metric with its difference and, where the files hold samples, an interval. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/result_file.h"

namespace engram::tools::bench {

enum class Direction { kHigherBetter, kLowerBetter, kNeither };

struct MetricDifference {
  std::string point = {};  // of an experiment; empty for load runs
  std::string metric;
  std::optional<double> a = {};
  std::optional<double> b = {};
  // B over A - 1 in percent; of figures that are percentages: B - A in percentage points.
  std::optional<double> difference = {};
  std::optional<double> low = {};
  std::optional<double> high = {};
  bool points = false;
  Direction direction = Direction::kNeither;
  std::string method = {};  // how the interval was made; empty without one

  // "not distinguishable", "B better", "B worse", "B higher", "B lower"; empty without an interval.
  std::string verdict() const;
};

struct RunComparison {
  std::string kind;
  std::string a;  // title and file
  std::string b;
  std::vector<std::vector<std::string>> settings;  // name, A's, B's: those that differ
  std::vector<std::string> warnings;
  std::vector<std::string> notes;  // what was not compared, what intervals do not hold
  std::vector<MetricDifference> metrics;
};

// INVALID_ARGUMENT when a set does not hold exactly one result, or their kinds differ.
memory::Result<RunComparison> compare_results(const ResultSet& a, const ResultSet& b);

std::string comparison_text(const RunComparison& comparison);
std::string comparison_json(const RunComparison& comparison);

}  // namespace engram::tools::bench

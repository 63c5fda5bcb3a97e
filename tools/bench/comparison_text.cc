// A comparison as a console table and as JSON.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/bench/compare_results.h"
#include "tools/bench/number_text.h"

namespace engram::tools::bench {
namespace {

using Json = nlohmann::ordered_json;
using Lines = std::vector<std::vector<std::string>>;

// Characters, not bytes.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

// Columns as wide as their widest text; the first and the last to the left, numbers to the right.
std::string aligned(const Lines& lines, const std::string& indent) {
  std::vector<size_t> widths;
  for (const std::vector<std::string>& line : lines) {
    widths.resize(std::max(widths.size(), line.size()));
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
  }
  std::string out;
  for (const std::vector<std::string>& line : lines) {
    std::string row = indent;
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string room(widths[i] - width_of(line[i]), ' ');
      const bool left = i == 0 || i + 1 == line.size();
      row += left ? line[i] + room : room + line[i];
      if (i + 1 < line.size()) row += "  ";
    }
    row.erase(row.find_last_not_of(' ') + 1);
    out += row + "\n";
  }
  return out;
}

std::string optional_number(const std::optional<double>& value) {
  return value ? short_number(*value) : "–";
}

std::string difference_text(const MetricDifference& d) {
  if (!d.difference) return "–";
  return signed_percent(*d.difference) + (d.points ? " pt" : " %");
}

std::string interval_text(const MetricDifference& d) {
  if (!d.low || !d.high) return "";
  return signed_percent(*d.low) + " to " + signed_percent(*d.high);
}

Json optional_json(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

const char* direction_name(Direction direction) {
  switch (direction) {
    case Direction::kHigherBetter:
      return "higher";
    case Direction::kLowerBetter:
      return "lower";
    case Direction::kNeither:
      return "neither";
  }
  return "";
}

}  // namespace

std::string comparison_text(const RunComparison& c) {
  std::string out = "A: " + c.a + "\nB: " + c.b + "\n";
  for (const std::string& warning : c.warnings) out += "WARNING: " + warning + "\n";
  if (c.settings.empty()) {
    out += "\nNo setting differs.\n";
  } else {
    Lines lines = {{"setting", "A", "B"}};
    lines.insert(lines.end(), c.settings.begin(), c.settings.end());
    out += "\nSettings that differ:\n" + aligned(lines, "  ");
  }
  std::string point = "\n";  // no point's name
  Lines lines;
  const auto flush = [&] {
    if (lines.empty()) return;
    out += "\n";
    if (!point.empty()) out.append(point).append("\n");
    out += aligned(lines, "  ");
    lines.clear();
  };
  std::set<std::string> methods;
  for (const MetricDifference& d : c.metrics) {
    if (d.point != point) {
      flush();
      point = d.point;
    }
    if (lines.empty()) lines.push_back({"metric", "A", "B", "difference", "95 % interval", ""});
    lines.push_back(
        {d.metric, optional_number(d.a), optional_number(d.b), difference_text(d), interval_text(d),
         d.verdict()});
    if (!d.method.empty()) methods.insert(d.method);
  }
  flush();
  if (!methods.empty() || !c.notes.empty()) out += "\n";
  for (const std::string& method : methods) out += "Intervals: " + method + ".\n";
  for (const std::string& note : c.notes) out += "Note: " + note + "\n";
  return out;
}

std::string comparison_json(const RunComparison& c) {
  Json settings = Json::array();
  for (const std::vector<std::string>& row : c.settings) {
    settings.push_back({{"name", row[0]}, {"a", row[1]}, {"b", row[2]}});
  }
  Json metrics = Json::array();
  for (const MetricDifference& d : c.metrics) {
    metrics.push_back(
        {{"point", d.point.empty() ? Json(nullptr) : Json(d.point)},
         {"metric", d.metric},
         {"a", optional_json(d.a)},
         {"b", optional_json(d.b)},
         {"difference", optional_json(d.difference)},
         {"unit", d.points ? "percentage points" : "percent"},
         {"low", optional_json(d.low)},
         {"high", optional_json(d.high)},
         {"better", direction_name(d.direction)},
         {"verdict", d.verdict()},
         {"method", d.method}});
  }
  const Json root = {
      {"x_kind", "compare"},
      {"x_schema", 1},
      {"kind", c.kind},
      {"a", c.a},
      {"b", c.b},
      {"settings", settings},
      {"warnings", c.warnings},
      {"notes", c.notes},
      {"metrics", metrics}};
  return root.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace engram::tools::bench

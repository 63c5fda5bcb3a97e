// Reading one result of the overhead experiment.
#include <algorithm>
#include <array>
#include <utility>

#include "tools/bench/number_text.h"
#include "tools/bench/result_readers.h"
#include "tools/bench/result_values.h"

namespace engram::tools::bench {
namespace {

using engine::JsonCursor;
using memory::Status;

Status read_bin(const JsonCursor& bin, ExposedWait* wait) {
  std::vector<double> pair;
  ENGRAM_RETURN_IF_ERROR(read_numbers(bin, &pair));
  if (pair.size() != 2) return bin.expected("[upper edge in us, count]");
  wait->histogram.push_back({pair[0], pair[1]});
  return {};
}

Status read_wait(const JsonCursor& at, ExposedWait* wait) {
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  ENGRAM_RETURN_IF_ERROR(read_number(at["p50"], &wait->p50_us));
  ENGRAM_RETURN_IF_ERROR(read_number(at["p99"], &wait->p99_us));
  ENGRAM_RETURN_IF_ERROR(read_number(at["max"], &wait->max_us));
  ENGRAM_RETURN_IF_ERROR(
      read_list(at["histogram"], [&](const JsonCursor& bin) { return read_bin(bin, wait); }));
  const auto ascending = [](const ExposedWait::Count& a, const ExposedWait::Count& b) {
    return a.upper_us < b.upper_us;
  };
  const bool sorted = std::is_sorted(wait->histogram.begin(), wait->histogram.end(), ascending);
  return sorted ? Status() : at["histogram"].expected("ascending edges");
}

Status read_rate(const std::string& name, const JsonCursor& at, ArmResult* arm) {
  RoundSamples rate{.metric = name, .median = {}, .samples = {}};
  ENGRAM_RETURN_IF_ERROR(read_number(at["median"], &rate.median));
  ENGRAM_RETURN_IF_ERROR(read_numbers(at["samples"], &rate.samples));
  arm->rates.push_back(std::move(rate));
  return {};
}

Status read_arm(const std::string& key, const JsonCursor& at, OverheadPoint* point) {
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  ArmResult arm;
  arm.key = key;
  ENGRAM_RETURN_IF_ERROR(read_text(at["name"], &arm.name));
  ENGRAM_RETURN_IF_ERROR(read_text(at["token_hash"], &arm.token_hash));
  ENGRAM_RETURN_IF_ERROR(read_wait(at["exposed_wait_us"], &arm.wait));
  ENGRAM_RETURN_IF_ERROR(read_members(at, [&](const std::string& name, const JsonCursor& member) {
    if (name == "exposed_wait_us") return Status();
    if (member.value().is_object()) return read_rate(name, member, &arm);
    if (member.value().is_number()) arm.amounts.push_back({name, member.value().get<double>()});
    return Status();
  }));
  point->arms.push_back(std::move(arm));
  return {};
}

Status read_comparison(const JsonCursor& at, OverheadPoint* point) {
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  OverheadComparison c;
  ENGRAM_RETURN_IF_ERROR(at["arm"].read(c.arm));
  ENGRAM_RETURN_IF_ERROR(at["baseline"].read(c.baseline));
  ENGRAM_RETURN_IF_ERROR(at["metric"].read(c.metric));
  ENGRAM_RETURN_IF_ERROR(read_text(at["text"], &c.text));
  const JsonCursor percent = at["overhead_percent"];
  if (!percent.is_null()) {
    ENGRAM_RETURN_IF_ERROR(percent.expect_object());
    ENGRAM_RETURN_IF_ERROR(read_number(percent["value"], &c.percent));
    ENGRAM_RETURN_IF_ERROR(read_number(percent["low"], &c.low));
    ENGRAM_RETURN_IF_ERROR(read_number(percent["high"], &c.high));
  }
  point->comparisons.push_back(std::move(c));
  return {};
}

// A number, or [least, most].
Status read_range(const JsonCursor& at, std::optional<TokenRange>* out) {
  if (at.is_null()) return {};
  if (at.value().is_number()) {
    const double value = at.value().get<double>();
    *out = TokenRange{value, value};
    return {};
  }
  std::vector<double> pair;
  ENGRAM_RETURN_IF_ERROR(read_numbers(at, &pair));
  if (pair.size() != 2) return at.expected("a number or [least, most]");
  *out = TokenRange{pair[0], pair[1]};
  return {};
}

Status read_flatness(const JsonCursor& at, OverheadResult* result) {
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  std::string workload;
  std::string arm;
  std::string metric;
  std::optional<double> batch;
  bool contention = false;
  OverheadFlatness flatness;
  ENGRAM_RETURN_IF_ERROR(read_text(at["workload"], &workload));
  ENGRAM_RETURN_IF_ERROR(read_text(at["arm"], &arm));
  ENGRAM_RETURN_IF_ERROR(read_text(at["metric"], &metric));
  ENGRAM_RETURN_IF_ERROR(read_number(at["batch"], &batch));
  ENGRAM_RETURN_IF_ERROR(read_flag(at["contention"], &contention));
  ENGRAM_RETURN_IF_ERROR(read_flag(at["flat"], &flatness.flat));
  flatness.text = workload + ", batch " + short_number(batch.value_or(0)) +
                  (contention ? ", contention" : "") + ": arm " + arm + ", " + metric;
  result->flatness.push_back(std::move(flatness));
  return {};
}

Status read_quiet(const JsonCursor& at, OverheadPoint* point) {
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  point->quiet = false;
  ENGRAM_RETURN_IF_ERROR(read_number(at["spread_percent"], &point->spread_percent));
  ENGRAM_RETURN_IF_ERROR(read_number(at["limit_percent"], &point->limit_percent));
  return read_flag(at["quiet"], &point->quiet);
}

Status read_pages(const JsonCursor& at, OverheadPoint* point) {
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  ENGRAM_RETURN_IF_ERROR(read_flag(at["taken_away"], &point->pages_taken_away));
  if (!at["touched_before_rounds"].is_null()) point->pages_taken_away = false;
  return {};
}

constexpr std::array<std::string_view, 6> kArms = {"N", "Z", "H", "D", "S", "V"};
constexpr std::array<std::string_view, 4> kParts = {
    "projections_and_gate", "launches", "exposed_wait", "interference"};

// The baseline first, then what costs more and more; an object has no order of its own.
void sort_for_people(OverheadPoint* p) {
  const auto place = [](const auto& order, std::string_view name) {
    return std::find(order.begin(), order.end(), name) - order.begin();
  };
  std::stable_sort(p->arms.begin(), p->arms.end(), [&](const ArmResult& a, const ArmResult& b) {
    return place(kArms, a.key) < place(kArms, b.key);
  });
  std::vector<Metric>& parts = p->split_percent;
  std::stable_sort(parts.begin(), parts.end(), [&](const Metric& a, const Metric& b) {
    return place(kParts, a.name) < place(kParts, b.name);
  });
}

Status read_point(const JsonCursor& at, OverheadResult* result) {
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  OverheadPoint p;
  p.metric = "output_throughput";
  ENGRAM_RETURN_IF_ERROR(at["workload"].read(p.workload));
  ENGRAM_RETURN_IF_ERROR(read_text(at["metric"], &p.metric));
  ENGRAM_RETURN_IF_ERROR(read_number(at["batch"], &p.batch));
  ENGRAM_RETURN_IF_ERROR(read_range(at["input_tokens"], &p.input_tokens));
  ENGRAM_RETURN_IF_ERROR(read_range(at["output_tokens"], &p.output_tokens));
  ENGRAM_RETURN_IF_ERROR(read_number(at["request_rate"], &p.request_rate));
  ENGRAM_RETURN_IF_ERROR(read_number(at["table_parameters"], &p.table_parameters));
  ENGRAM_RETURN_IF_ERROR(read_number(at["table_bytes"], &p.table_bytes));
  ENGRAM_RETURN_IF_ERROR(read_flag(at["contention"], &p.contention));
  ENGRAM_RETURN_IF_ERROR(read_members(
      at["arms"],
      [&](const std::string& key, const JsonCursor& arm) { return read_arm(key, arm, &p); }));
  ENGRAM_RETURN_IF_ERROR(
      read_list(at["comparisons"], [&](const JsonCursor& c) { return read_comparison(c, &p); }));
  ENGRAM_RETURN_IF_ERROR(
      read_members(at["split_percent"], [&](const std::string& name, const JsonCursor& part) {
        p.split_percent.push_back({name, {}});
        return read_number(part, &p.split_percent.back().value);
      }));
  ENGRAM_RETURN_IF_ERROR(read_quiet(at["quiet"], &p));
  ENGRAM_RETURN_IF_ERROR(read_pages(at["table_pages"], &p));
  sort_for_people(&p);
  result->points.push_back(std::move(p));
  return {};
}

Status read_warnings(const JsonCursor& root, OverheadResult* result) {
  std::string scaled_down;
  bool interrupted = false;
  ENGRAM_RETURN_IF_ERROR(read_text(root["scaled_down"], &scaled_down));
  ENGRAM_RETURN_IF_ERROR(read_flag(root["interrupted"], &interrupted));
  if (!scaled_down.empty()) result->warnings.push_back("Scaled down: " + scaled_down);
  if (interrupted) result->warnings.push_back("The run was interrupted: points are missing.");
  for (const OverheadPoint& point : result->points) {
    if (point.pages_taken_away) {
      result->warnings.push_back(
          "The machine took pages of the tables away meanwhile: " + describe_point(point) +
          ". Rows waited for them to come back (--touch-tables).");
    }
    if (point.quiet) continue;
    if (!point.spread_percent) {
      result->warnings.push_back("No round was finished: " + describe_point(point) + ".");
      continue;
    }
    result->warnings.push_back(
        "Not quiet: " + describe_point(point) + ": the same arm measured twice differed by " +
        short_number(*point.spread_percent) + " % (limit " +
        short_number(point.limit_percent.value_or(0)) + " %). Do not rely on its figures.");
  }
  return {};
}

}  // namespace

std::string describe_point(const OverheadPoint& p) {
  std::string text = p.workload;
  if (p.batch) text += ", batch " + short_number(*p.batch);
  if (p.input_tokens && p.output_tokens) {
    text += ", " + p.input_tokens->text() + " + " + p.output_tokens->text() + " tokens";
  }
  if (p.request_rate) text += ", " + short_number(*p.request_rate) + " requests/s";
  if (p.table_parameters) text += ", table " + axis_number(*p.table_parameters, true);
  if (p.contention) text += ", contention";
  return text;
}

std::string TokenRange::text() const {
  return low == high ? short_number(low) : short_number(low) + " to " + short_number(high);
}

const RoundSamples* ArmResult::rate(std::string_view metric) const {
  for (const RoundSamples& r : rates) {
    if (r.metric == metric) return &r;
  }
  return nullptr;
}

Status read_overhead_result(const JsonCursor& root, OverheadResult* result) {
  ENGRAM_RETURN_IF_ERROR(read_text(root["date"], &result->date));
  ENGRAM_RETURN_IF_ERROR(read_text(root["label"], &result->label));
  ENGRAM_RETURN_IF_ERROR(read_text(root["command"], &result->command));
  for (const char* name : {"engram_version", "machine", "model", "settings", "peaks"}) {
    const JsonCursor at = root[name];
    if (!at.is_null()) add_settings(name, at.value(), &result->settings);
  }
  ENGRAM_RETURN_IF_ERROR(root["points"].expect_array());
  ENGRAM_RETURN_IF_ERROR(
      read_list(root["points"], [&](const JsonCursor& at) { return read_point(at, result); }));
  ENGRAM_RETURN_IF_ERROR(
      read_list(root["flatness"], [&](const JsonCursor& at) { return read_flatness(at, result); }));
  return read_warnings(root, result);
}

}  // namespace engram::tools::bench

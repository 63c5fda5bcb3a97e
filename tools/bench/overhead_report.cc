#include "tools/bench/overhead_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

namespace engram::tools::bench {
namespace {

using Json = nlohmann::ordered_json;

// What is told for each arm, over each of its baselines.
constexpr const char* kBaselines[][2] = {{"D", "N"}, {"S", "N"}, {"Z", "N"}, {"V", "N"}, {"H", "N"},
                                         {"D", "H"}, {"D", "Z"}, {"S", "D"}, {"V", "D"}};

Json figure(double value) {
  return value > 0 && std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json whole(int64_t value) {
  return value > 0 ? Json(value) : Json(nullptr);
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

Json metric_json(const std::vector<double>& samples) {
  const bool measured =
      !samples.empty() && std::ranges::all_of(samples, [](double v) { return v > 0; });
  if (!measured) return {{"median", nullptr}, {"samples", Json::array()}};
  return {{"median", quantile(samples, 0.5)}, {"samples", samples}};
}

// None for an arm that fetches no rows: it has nothing to wait for.
std::vector<double> waits_us(const ArmRounds& arm) {
  std::vector<double> waits;
  const bool fetches = std::ranges::any_of(arm.samples, [](const Sample& s) {
    return s.rows > 0 || std::ranges::any_of(s.wait_seconds, [](double w) { return w > 0; });
  });
  if (!fetches) return waits;
  for (const Sample& sample : arm.samples) {
    for (const double s : sample.wait_seconds) waits.push_back(1e6 * s);
  }
  return waits;
}

// Upper edges are powers of two; the last bin that holds something ends it.
Json histogram(const std::vector<double>& us) {
  std::vector<int64_t> counts;
  for (const double v : us) {
    size_t bin = 0;
    while (v > std::exp2(static_cast<double>(bin))) ++bin;
    if (counts.size() <= bin) counts.resize(bin + 1);
    ++counts[bin];
  }
  Json bins = Json::array();
  for (size_t bin = 0; bin < counts.size(); ++bin) {
    bins.push_back({std::exp2(static_cast<double>(bin)), counts[bin]});
  }
  return bins;
}

Json wait_json(const ArmRounds& arm) {
  const std::vector<double> us = waits_us(arm);
  if (us.empty()) {
    return {{"p50", nullptr}, {"p99", nullptr}, {"max", nullptr}, {"histogram", Json::array()}};
  }
  return {
      {"p50", quantile(us, 0.5)},
      {"p99", quantile(us, 0.99)},
      {"max", quantile(us, 1)},
      {"histogram", histogram(us)}};
}

struct Traffic {
  int64_t rows = 0;
  int64_t unique_rows = 0;
  int64_t bytes = 0;
  double seconds = 0;

  double gbps() const { return seconds > 0 ? 1e-9 * static_cast<double>(bytes) / seconds : 0; }
};

Traffic traffic_of(const ArmRounds& arm) {
  Traffic t;
  for (const Sample& sample : arm.samples) {
    t.rows += sample.rows;
    t.unique_rows += sample.unique_rows;
    t.bytes += sample.bytes;
    t.seconds += sample.gather_seconds;
  }
  return t;
}

Json arm_json(const ArmRounds& arm, const Peaks& peaks) {
  const Traffic traffic = traffic_of(arm);
  Json json = {{"name", arm.name}};
  for (const char* metric : kMetrics) json[metric] = metric_json(metric_of(arm, metric));
  std::vector<double> steps;
  for (const Sample& sample : arm.samples) {
    for (const double s : sample.step_seconds) steps.push_back(1e3 * s);
  }
  json["engine_step_ms_mean"] = figure(mean(steps));
  json["exposed_wait_us"] = wait_json(arm);
  json["rows"] = whole(traffic.rows);
  json["unique_rows"] = whole(traffic.unique_rows);
  json["bytes"] = whole(traffic.bytes);
  json["gather_gbps"] = figure(traffic.gbps());
  json["link_share"] = figure(peaks.link_gbps > 0 ? traffic.gbps() / peaks.link_gbps : 0);
  json["copy_share"] = figure(peaks.copy_gbps > 0 ? traffic.gbps() / peaks.copy_gbps : 0);
  json["token_hash"] = hex(arm.token_hash);
  return json;
}

Json estimate_json(const Estimate& e) {
  return {{"value", e.value}, {"low", e.low}, {"high", e.high}};
}

Json comparisons_json(const PointResult& point) {
  Json list = Json::array();
  for (const auto& [arm, baseline] : kBaselines) {
    const ArmRounds* a = point.find(arm);
    const ArmRounds* b = point.find(baseline);
    if (a == nullptr || b == nullptr) continue;
    for (const char* metric : kMetrics) {
      const Estimate e = overhead_of(*a, *b, metric);
      if (e.rounds == 0) continue;
      list.push_back(
          {{"arm", arm},
           {"baseline", baseline},
           {"metric", metric},
           {"overhead_percent", estimate_json(e)},
           {"text", describe_overhead(e)}});
    }
  }
  return list;
}

Json split_json(const PointResult& point) {
  const CostSplit s = split_cost(point);
  return {
      {"projections_and_gate", s.has_projections ? Json(s.projections_and_gate) : Json(nullptr)},
      {"launches", nullptr},
      {"exposed_wait", s.has_wait ? Json(s.exposed_wait) : Json(nullptr)},
      {"interference", s.has_interference ? Json(s.interference) : Json(nullptr)}};
}

Json quiet_json(const PointResult& point) {
  const bool measured = point.rounds() > 0;
  return {
      {"spread_percent", measured ? Json(point.quiet.spread_percent) : Json(nullptr)},
      {"limit_percent", point.quiet.limit_percent},
      {"quiet", measured ? Json(point.quiet.quiet()) : Json(nullptr)}};
}

Json mean_json(const LengthRange& range) {
  if ((range.low + range.high) % 2 == 0) return (range.low + range.high) / 2;
  return 0.5 * static_cast<double>(range.low + range.high);
}

Json pages_json(const TablePages& pages) {
  if (pages.count == 0) return nullptr;
  const double per_page = 1e9 / static_cast<double>(pages.count);
  Json before = nullptr;
  if (!pages.before_rounds_s.empty()) {
    before = {
        {"ms_p50", 1e3 * quantile(pages.before_rounds_s, 0.5)},
        {"ms_max", 1e3 * quantile(pages.before_rounds_s, 1)}};
  }
  return {
      {"count", pages.count},
      {"touched_before_rounds", before},
      {"after_rounds_ns", per_page * pages.after_rounds_s},
      {"again_ns", per_page * pages.again_s},
      {"taken_away", pages.taken_away()}};
}

Json point_json(const ReportPoint& p, const Peaks& peaks) {
  const Workload& w = p.result.workload;
  Json arms = Json::object();
  for (const ArmRounds& arm : p.result.arms) arms[arm.key] = arm_json(arm, peaks);
  return {
      {"workload", w.name},
      {"metric", w.metric},
      {"batch", w.batch},
      {"input_tokens", mean_json(w.input)},
      {"output_tokens", mean_json(w.output)},
      {"input_range", {w.input.low, w.input.high}},
      {"output_range", {w.output.low, w.output.high}},
      {"request_rate", figure(w.request_rate)},
      {"table_parameters", whole(p.table_parameters)},
      {"table_bytes", whole(p.table_bytes)},
      {"table_codec", text_or_null(p.table_codec)},
      {"contention", p.contention},
      {"contention_gbps", figure(p.contention_gbps)},
      {"table_pages", pages_json(p.pages)},
      {"rounds", p.result.rounds()},
      {"arms", arms},
      {"comparisons", comparisons_json(p.result)},
      {"split_percent", split_json(p.result)},
      {"quiet", quiet_json(p.result)}};
}

Json machine_json(const MachineFacts& m) {
  Json link = nullptr;
  if (m.link_generation > 0) link = {{"generation", m.link_generation}, {"width", m.link_width}};
  return {
      {"cpu", m.cpu},
      {"cores", m.cores},
      {"memory_bytes", m.memory_bytes},
      {"device", m.device},
      {"page_mode", text_or_null(m.page_mode)},
      {"numa_nodes", m.numa_nodes},
      {"table_numa_nodes", m.table_nodes},
      {"link", link}};
}

Json flatness_json(const std::vector<ReportPoint>& points) {
  Json list = Json::array();
  for (const Flatness& f : find_flatness(points)) {
    Json sizes = Json::array();
    for (size_t i = 0; i < f.overhead.size(); ++i) {
      sizes.push_back(
          {{"table_parameters", f.table_parameters[i]},
           {"overhead_percent", estimate_json(f.overhead[i])}});
    }
    list.push_back(
        {{"workload", f.workload},
         {"batch", f.batch},
         {"contention", f.contention},
         {"arm", f.arm},
         {"metric", f.metric},
         {"sizes", sizes},
         {"flat", f.flat()}});
  }
  return list;
}

void append(std::string* text, const char* format, auto... values) {
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  text->append(line);
}

// "12.34" in a column, "-" when it was not measured.
std::string cell(double value, const char* format) {
  if (!(value > 0)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string wait_cell(const std::vector<double>& us, double share) {
  if (us.empty()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", quantile(us, share));
  return text;
}

std::string tables_text(const ReportPoint& p) {
  if (p.table_parameters <= 0) return "no tables";
  char text[32];
  std::snprintf(
      text, sizeof text, "%.3gB parameters", 1e-9 * static_cast<double>(p.table_parameters));
  return p.table_codec.empty() ? text : std::string(text) + " in " + p.table_codec;
}

// What a reader must know of them, or nothing.
std::string pages_text(const TablePages& pages) {
  std::string text;
  if (!pages.before_rounds_s.empty()) {
    append(
        &text, "  tables touched before each round: %.1f ms, %.1f at most\n",
        1e3 * quantile(pages.before_rounds_s, 0.5), 1e3 * quantile(pages.before_rounds_s, 1));
  } else if (pages.taken_away()) {
    append(
        &text,
        "  this machine took pages of the tables away: reading them all takes %.0f ms, right "
        "afterwards %.0f (--touch-tables)\n",
        1e3 * pages.after_rounds_s, 1e3 * pages.again_s);
  }
  return text;
}

std::string part_text(bool known, double percent) {
  if (!known) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%+.2f %%", percent);
  return text;
}

}  // namespace

bool Flatness::flat() const {
  double low = -1e300;
  double high = 1e300;
  for (const Estimate& e : overhead) {
    low = std::max(low, e.low);
    high = std::min(high, e.high);
  }
  return low <= high;
}

std::vector<Flatness> find_flatness(const std::vector<ReportPoint>& points) {
  std::map<std::tuple<std::string, int, int64_t, bool, std::string>, Flatness> found;
  for (const ReportPoint& p : points) {
    const Workload& w = p.result.workload;
    const ArmRounds* n = p.result.find("N");
    if (n == nullptr) continue;
    for (const char* key : {"D", "V"}) {
      const ArmRounds* arm = p.result.find(key);
      if (arm == nullptr) continue;
      const Estimate e = overhead_of(*arm, *n, w.metric);
      if (e.rounds == 0) continue;
      Flatness& f = found[{w.name, w.batch, w.input.high, p.contention, key}];
      f.workload = w.name;
      f.batch = w.batch;
      f.contention = p.contention;
      f.arm = key;
      f.metric = w.metric;
      f.table_parameters.push_back(p.table_parameters);
      f.overhead.push_back(e);
    }
  }
  std::vector<Flatness> list;
  for (auto& [key, f] : found) {
    if (f.overhead.size() > 1) list.push_back(std::move(f));
  }
  return list;
}

std::string overhead_json(const OverheadReport& r) {
  Json points = Json::array();
  for (const ReportPoint& p : r.points) points.push_back(point_json(p, r.peaks));
  const Json json = {
      {"x_kind", r.kind},
      {"x_schema", 1},
      {"engram_version", r.engram_version},
      {"date", r.date},
      {"command", r.command},
      {"label", r.label},
      {"machine", machine_json(r.machine)},
      {"model",
       {{"name", r.model.name},
        {"path", r.model.path},
        {"parameters", whole(r.model.parameters)},
        {"dtype", r.model.dtype},
        {"layers", r.model.layers},
        {"engram_layers", r.model.engram_layers}}},
      {"settings",
       {{"rounds", r.options.rounds},
        {"warm_ups", r.options.warm_ups},
        {"sizes_in_turns", r.sizes_in_turns},
        {"threads", r.threads},
        {"seed", r.options.seed},
        {"workloads", r.workloads},
        {"activations", r.activations},
        {"kv_cache_dtype", text_or_null(r.cache)},
        {"table_codec", text_or_null(r.table_codec)},
        {"weights", r.weights},
        {"measured_twice", r.options.twice},
        {"confidence", kConfidence},
        {"quiet_limit_percent", r.options.quiet_limit_percent}}},
      {"peaks",
       {{"read_gbps", figure(r.peaks.read_gbps)},
        {"copy_gbps", figure(r.peaks.copy_gbps)},
        {"link_gbps", figure(r.peaks.link_gbps)}}},
      {"scaled_down", text_or_null(r.scaled_down)},
      {"points", points},
      {"flatness", flatness_json(r.points)},
      {"interrupted", r.interrupted}};
  return json.dump(2) + "\n";
}

std::string point_text(const ReportPoint& p) {
  const PointResult& point = p.result;
  const Workload& w = point.workload;
  std::string text;
  append(
      &text, "\n%s: batch %d, %lld to %lld tokens in, %lld to %lld out; %s%s\n", w.name.c_str(),
      w.batch, static_cast<long long>(w.input.low), static_cast<long long>(w.input.high),
      static_cast<long long>(w.output.low), static_cast<long long>(w.output.high),
      tables_text(p).c_str(), p.contention ? "; with contention" : "");
  if (p.contention) append(&text, "second stream of copies: %.2f GB/s\n", p.contention_gbps);
  append(
      &text, "  %-5s %12s %10s %10s %10s %9s %9s %8s  %s (%s)\n", "arm", "tokens/s", "TTFT ms",
      "TPOT ms", "step ms", "wait p50", "wait p99", "GB/s", "slower than N", w.metric.c_str());
  const ArmRounds* n = point.find("N");
  for (const ArmRounds& arm : point.arms) {
    const auto median = [&](const char* metric) { return quantile(metric_of(arm, metric), 0.5); };
    const std::vector<double> waits = waits_us(arm);
    std::string cost;
    if (n != nullptr && &arm != n) {
      const Estimate e = overhead_of(arm, *n, w.metric);
      cost = e.rounds > 0 ? describe_overhead(e) : "-";
    }
    append(
        &text, "  %-5s %12s %10s %10s %10s %9s %9s %8s  %s\n",
        arm.key == "D" && p.device_is_host ? "D = H" : arm.key.c_str(),
        cell(median("output_throughput"), "%.1f").c_str(), cell(median("ttft_ms"), "%.3f").c_str(),
        cell(median("tpot_ms"), "%.3f").c_str(), cell(median("step_ms"), "%.3f").c_str(),
        wait_cell(waits, 0.5).c_str(), wait_cell(waits, 0.99).c_str(),
        cell(traffic_of(arm).gbps(), "%.3f").c_str(), cost.c_str());
  }
  const CostSplit s = split_cost(point);
  append(
      &text, "  of N's time: projections and gate %s, exposed wait %s, interference %s\n",
      part_text(s.has_projections, s.projections_and_gate).c_str(),
      part_text(s.has_wait, s.exposed_wait).c_str(),
      part_text(s.has_interference, s.interference).c_str());
  if (const ArmRounds* d = point.find("D"), *z = point.find("Z"); d != nullptr && z != nullptr) {
    const Estimate e = overhead_of(*d, *z, w.metric);
    if (e.rounds > 0)
      append(&text, "  D over Z, all but the module: %s\n", describe_overhead(e).c_str());
  }
  if (point.rounds() == 0) return text + "  no round was finished\n";
  text += pages_text(p.pages);
  append(
      &text,
      "  %s: the same arm twice in a round differs by %.2f %% (limit %.0f %%), %d rounds%s\n",
      point.quiet.quiet() ? "quiet" : "NOISY, do not believe it", point.quiet.spread_percent,
      point.quiet.limit_percent, point.rounds(), point.interrupted ? ", interrupted" : "");
  return text;
}

std::string flatness_text(const Flatness& f) {
  std::string text;
  append(
      &text, "%s, batch %d%s: %s over N by table size", f.workload.c_str(), f.batch,
      f.contention ? ", contention" : "", f.arm.c_str());
  for (size_t i = 0; i < f.overhead.size(); ++i) {
    const Estimate& e = f.overhead[i];
    append(
        &text, "%s %.3gB %+.2f %% (%+.2f to %+.2f)", i == 0 ? ":" : ";",
        1e-9 * static_cast<double>(f.table_parameters[i]), e.value, e.low, e.high);
  }
  return text + (f.flat() ? "; flat within the intervals\n" : "; NOT flat within the intervals\n");
}

}  // namespace engram::tools::bench

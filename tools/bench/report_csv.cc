
#include "tools/bench/number_text.h"
#include "tools/bench/report.h"

namespace engram::tools::bench {
namespace {

constexpr const char* kHeader =
    "kind,file,label,date,trusted,request_rate,max_concurrency,workload,batch,input_tokens,"
    "output_tokens,table_parameters,contention,arm,baseline,round,metric,value,low,high\r\n";

std::string quoted(const std::string& text) {
  const bool formula = !text.empty() && std::string("=+-@\t\r").find(text[0]) != std::string::npos;
  const std::string plain = (formula ? "'" : "") + text;
  if (plain.find_first_of(",\"\r\n") == std::string::npos) return plain;
  std::string out = "\"";
  for (const char c : plain) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

std::string number(const std::optional<double>& value) {
  return value ? exact_number(*value) : "";
}

// "512", "100-1024".
std::string range(const std::optional<TokenRange>& tokens) {
  if (!tokens) return "";
  const std::string low = exact_number(tokens->low);
  return tokens->low == tokens->high ? low : low + "-" + exact_number(tokens->high);
}

// The figures of one row; what they belong to comes before them.
struct Figures {
  std::string arm;
  std::string baseline;
  std::string round;
  std::string metric;
  std::optional<double> value;
  std::optional<double> low = {};
  std::optional<double> high = {};
};

std::string row(const std::string& belongs_to, const Figures& f) {
  return belongs_to + "," + quoted(f.arm) + "," + quoted(f.baseline) + "," + f.round + "," +
         quoted(f.metric) + "," + number(f.value) + "," + number(f.low) + "," + number(f.high) +
         "\r\n";
}

std::string serve_rows(const ServeResult& run) {
  const std::string belongs_to = "serve," + quoted(run.file) + "," + quoted(run.label) + "," +
                                 quoted(run.date) + "," + (run.warnings.empty() ? "yes" : "no") +
                                 "," + exact_number(run.request_rate) + "," +
                                 number(run.max_concurrency) + ",,,,,,";
  std::string out;
  for (const Metric& metric : run.metrics) {
    out += row(belongs_to, {"", "", "", metric.name, metric.value});
  }
  return out;
}

std::string arm_rows(const std::string& belongs_to, const ArmResult& arm) {
  std::string out;
  for (const RoundSamples& rate : arm.rates) {
    out += row(belongs_to, {arm.key, "", "", rate.metric, rate.median});
    for (size_t i = 0; i < rate.samples.size(); ++i) {
      out += row(belongs_to, {arm.key, "", std::to_string(i + 1), rate.metric, rate.samples[i]});
    }
  }
  out += row(belongs_to, {arm.key, "", "", "exposed_wait_us.p50", arm.wait.p50_us});
  out += row(belongs_to, {arm.key, "", "", "exposed_wait_us.p99", arm.wait.p99_us});
  out += row(belongs_to, {arm.key, "", "", "exposed_wait_us.max", arm.wait.max_us});
  for (const Metric& amount : arm.amounts) {
    out += row(belongs_to, {arm.key, "", "", amount.name, amount.value});
  }
  return out;
}

std::string point_rows(const OverheadResult& run, const OverheadPoint& p) {
  const std::string belongs_to =
      run.kind + "," + quoted(run.file) + "," + quoted(run.label) + "," + quoted(run.date) + "," +
      (p.quiet ? "yes" : "no") + "," + number(p.request_rate) + ",," + quoted(p.workload) + "," +
      number(p.batch) + "," + range(p.input_tokens) + "," + range(p.output_tokens) + "," +
      number(p.table_parameters) + "," + (p.contention ? "yes" : "no");
  std::string out;
  for (const OverheadComparison& c : p.comparisons) {
    out +=
        row(belongs_to,
            {c.arm, c.baseline, "", "overhead_percent." + c.metric, c.percent, c.low, c.high});
  }
  for (const ArmResult& arm : p.arms) out += arm_rows(belongs_to, arm);
  for (const Metric& part : p.split_percent) {
    out += row(belongs_to, {"", "", "", "split_percent." + part.name, part.value});
  }
  return out + row(belongs_to, {"", "", "", "spread_percent", p.spread_percent});
}

}  // namespace

std::string report_csv(const ResultSet& results) {
  std::string out = kHeader;
  for (const ServeResult& run : results.serve) out += serve_rows(run);
  for (const OverheadResult& run : results.overhead) {
    for (const OverheadPoint& point : run.points) out += point_rows(run, point);
  }
  return out;
}

}  // namespace engram::tools::bench

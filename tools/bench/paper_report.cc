#include "tools/bench/paper_report.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/bench/statistics.h"

namespace engram::tools::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMetric = "output_throughput";
constexpr const char* kWithout = "N";

void append(std::string* text, const char* format, auto... values) {
  char line[512];
  std::snprintf(line, sizeof line, format, values...);
  text->append(line);
}

// What the paper measured of an arm; 0: nothing.
double paper_throughput(const PaperFigures& figures, const std::string& arm) {
  if (arm == kWithout) return figures.without;
  return arm == "D" ? figures.with : 0;
}

Json known(double value) {
  return value > 0 ? Json(value) : Json(nullptr);
}

Json row_json(const PaperModelResult& model, const ArmRounds& arm) {
  const PaperFigures* figures = find_paper_figures(model.facts.name);
  const Estimate loss = loss_percent(model.point.result, arm.key);
  Json row = {
      {"model", model.facts.name},
      {"arm", arm.key},
      {"paper_output_throughput", figures ? known(paper_throughput(*figures, arm.key)) : Json()},
      {"paper_loss_percent",
       figures != nullptr && arm.key == "D" ? Json(figures->loss_percent()) : Json()},
      {"output_throughput", known(quantile(metric_of(arm, kMetric), 0.5))},
      {"loss_percent", nullptr},
      {"scaled_down", model.scaled_down.empty() ? Json() : Json(model.scaled_down)}};
  if (loss.rounds > 0) {
    row["loss_percent"] = {{"value", loss.value}, {"low", loss.low}, {"high", loss.high}};
  }
  return row;
}

std::string cell(double value) {
  if (!(value > 0)) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string loss_cell(const PointResult& point, const ArmRounds& arm) {
  if (arm.key == kWithout) return "";
  const Estimate loss = loss_percent(point, arm.key);
  if (loss.rounds == 0) return "-";
  char text[80];
  std::snprintf(text, sizeof text, "%.2f %% (%.2f to %.2f)", loss.value, loss.low, loss.high);
  return loss.contains(0) ? std::string(text) + ", not distinguishable from 0" : text;
}

void append_model(std::string* text, const PaperModelResult& model) {
  const PaperFigures* figures = find_paper_figures(model.facts.name);
  const PointResult& point = model.point.result;
  const std::string mark = model.scaled_down.empty() ? "" : " SCALED";
  for (const ArmRounds& arm : point.arms) {
    const double said = figures == nullptr ? 0 : paper_throughput(*figures, arm.key);
    const bool loses = figures != nullptr && arm.key == "D";
    append(
        text, "%-16s %-2s %-40s %12s %8s %14s  %s\n", (model.facts.name + mark).c_str(),
        arm.key.c_str(), arm.name.c_str(), cell(said).c_str(),
        loses ? (cell(figures->loss_percent()) + " %").c_str() : "",
        cell(quantile(metric_of(arm, kMetric), 0.5)).c_str(), loss_cell(point, arm).c_str());
  }
  if (point.rounds() == 0) {
    append(text, "%-16s no round was finished\n", (model.facts.name + mark).c_str());
    return;
  }
  append(
      text,
      "%-16s %s: the same arm twice in a round differs by %.2f %% (limit %.0f %%), %d "
      "rounds%s\n",
      "", point.quiet.quiet() ? "quiet" : "NOISY, do not believe it", point.quiet.spread_percent,
      point.quiet.limit_percent, point.rounds(), point.interrupted ? ", interrupted" : "");
}

}  // namespace

Estimate loss_percent(const PointResult& point, const std::string& arm) {
  const ArmRounds* with = point.find(arm);
  const ArmRounds* without = point.find(kWithout);
  if (with == nullptr || without == nullptr || with == without) return {};
  Estimate e = overhead_of(*with, *without, kMetric);
  // Slower by s: t / (1 + s) is left of t. The order stays.
  for (double* value : {&e.value, &e.low, &e.high}) *value = 100 * *value / (100 + *value);
  return e;
}

std::string paper_json(const PaperReport& report) {
  OverheadReport run = report.run;
  run.points.clear();
  std::vector<const PaperModelResult*> measured;
  for (const PaperModelResult& model : report.models) {
    if (model.point.result.rounds() == 0) continue;
    measured.push_back(&model);
    run.points.push_back(model.point);
  }
  Json json = Json::parse(overhead_json(run));
  Json models = Json::array();
  for (const PaperModelResult& model : report.models) {
    models.push_back(
        {{"name", model.facts.name},
         {"path", model.facts.path},
         {"parameters", model.facts.parameters},
         {"dtype", model.facts.dtype},
         {"layers", model.facts.layers},
         {"engram_layers", model.facts.engram_layers},
         {"scaled_down", model.scaled_down.empty() ? Json() : Json(model.scaled_down)}});
  }
  json["models"] = models;
  Json rows = Json::array();
  for (size_t i = 0; i < measured.size(); ++i) {
    json["points"][i]["model"] = measured[i]->facts.name;
    for (const ArmRounds& arm : measured[i]->point.result.arms) {
      rows.push_back(row_json(*measured[i], arm));
    }
  }
  json["paper"] = rows;
  json["paper_setting"] =
      "H800, nano-vLLM, 512 sequences of 100 to 1024 tokens, a layer of 100B parameters in host "
      "memory at the second block";
  return json.dump(2) + "\n";
}

std::string paper_text(const PaperReport& report) {
  std::string text;
  if (!report.run.scaled_down.empty()) {
    text += "\nSCALED DOWN, these are not the paper's sizes: " + report.run.scaled_down + "\n";
  }
  append(
      &text, "\n%-62s%12s %8s %14s\n%-16s %-2s %-40s %12s %8s %14s  %s\n", "", "paper, H800", "",
      "measured here", "model", "", "arm", "tokens/s", "loss", "tokens/s", "loss (95 % interval)");
  for (const PaperModelResult& model : report.models) append_model(&text, model);
  append(
      &text,
      "tokens/s are those of answers. Measured on %s, activations %s, keys and values %s, table "
      "rows "
      "%s, greedy;\nthe paper's authors used nano-vLLM and did not state the width of a row (here "
      "80) or its type, nor whether\nlengths are of prompts, answers or both (here both).\n",
      report.run.machine.device.c_str(), report.run.activations.c_str(), report.run.cache.c_str(),
      report.run.table_codec.c_str());
  if (!report.run.scaled_down.empty()) text += "SCALED DOWN, see above.\n";
  return text;
}

}  // namespace engram::tools::bench

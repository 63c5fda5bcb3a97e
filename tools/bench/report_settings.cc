#include "tools/bench/report_settings.h"

#include <algorithm>

#include "tools/bench/html_page.h"

namespace engram::tools::bench {
namespace {

std::string text_of(const RunSettings& run, const std::string& name) {
  for (const Setting& setting : run.settings) {
    if (setting.name == name) return setting.text;
  }
  return "–";
}

// Every name and its texts, in the order in which names first occur.
std::vector<std::vector<std::string>> all_settings(const std::vector<RunSettings>& runs) {
  std::vector<std::string> names;
  for (const RunSettings& run : runs) {
    for (const Setting& setting : run.settings) {
      if (std::find(names.begin(), names.end(), setting.name) == names.end()) {
        names.push_back(setting.name);
      }
    }
  }
  std::vector<std::vector<std::string>> rows;
  for (const std::string& name : names) {
    rows.push_back({name});
    for (const RunSettings& run : runs) rows.back().push_back(text_of(run, name));
  }
  return rows;
}

bool differs(const std::vector<std::string>& row) {
  return std::any_of(
      row.begin() + 1, row.end(), [&](const std::string& text) { return text != row[1]; });
}

}  // namespace

std::vector<std::vector<std::string>> differing_settings(const std::vector<RunSettings>& runs) {
  std::vector<std::vector<std::string>> rows = all_settings(runs);
  std::erase_if(rows, [](const std::vector<std::string>& row) { return !differs(row); });
  return rows;
}

std::string settings_html(const std::vector<RunSettings>& runs) {
  Table differing{.header = {"run"}, .rows = {}};
  for (const RunSettings& run : runs) differing.rows.push_back({text_cell(run.run)});
  for (const std::vector<std::string>& row : differing_settings(runs)) {
    differing.header.push_back(row[0]);
    for (size_t i = 0; i < runs.size(); ++i) {
      differing.rows[i].push_back(text_cell(row[i + 1]));
    }
  }
  Table shared{.header = {"setting", "value"}, .rows = {}};
  for (const std::vector<std::string>& row : all_settings(runs)) {
    if (!differs(row)) shared.rows.push_back({text_cell(row[0]), text_cell(row[1])});
  }
  std::string out;
  if (differing.header.size() > 1) {
    out += details_html("Settings in which the runs differ", table_html(differing), true);
  }
  if (!shared.rows.empty()) {
    out += details_html(
        runs.size() > 1 ? "Settings that the runs share" : "Settings", table_html(shared), false);
  }
  return out;
}

}  // namespace engram::tools::bench

// How runs were set up: what they differ in, in plain sight, and what they share, folded.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

struct RunSettings {
  std::string run;
  std::vector<Setting> settings;
};

// A row per setting that two of them have with different texts, or that one lacks: name, then one
// text per run ("–" where it lacks it).
std::vector<std::vector<std::string>> differing_settings(const std::vector<RunSettings>& runs);

// Markup.
std::string settings_html(const std::vector<RunSettings>& runs);

}  // namespace engram::tools::bench

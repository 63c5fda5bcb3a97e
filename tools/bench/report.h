// A report of any mix of results: one page, or a flat table for spreadsheets. Pure functions.
#pragma once

#include <string>

#include "tools/bench/result_file.h"

namespace engram::tools::bench {

// HTML that asks for nothing else: no script, no request.
std::string report_page(const ResultSet& results);

// CSV after RFC 4180: one row per figure, with what it belongs to. Text that a spreadsheet would
// take for a formula begins with an apostrophe. A figure that was not measured has no value.
std::string report_csv(const ResultSet& results);

}  // namespace engram::tools::bench

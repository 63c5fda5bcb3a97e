// A timeline of requests: one row each, from when it was sent over its first token to its last, the
// gaps between messages coloured by how long they were. Pure functions that return an <svg>.
#pragma once

#include <string>
#include <vector>

#include "tools/bench/html_page.h"

namespace engram::tools::bench {

struct TimelineRow {
  double sent_s = 0;
  double first_s = -1;         // first token; below sent_s: it never came
  std::vector<double> gaps_s;  // between its messages, from the first on
};

struct Timeline {
  std::string title;
  std::vector<TimelineRow> rows;  // drawn from the top down
};

// The edges in milliseconds between the colours of gaps, ascending: 0.8 to 10 times the median gap,
// in two digits. None for no gaps.
std::vector<double> gap_edges_ms(std::vector<double> gaps_ms);

std::string draw_timeline(const Timeline& timeline);
std::vector<LegendEntry> legend_of(const Timeline& timeline);

}  // namespace engram::tools::bench

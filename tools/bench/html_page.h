// One HTML page that needs nothing else: escaping, tables that carry exact numbers, figures with a
// legend and their numbers, the page with its style (light, dark, printed). The markup is also
// well-formed XML. Pure functions that return markup; text arguments are escaped by them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace engram::tools::bench {

// For element content and quoted attributes. Characters that XML forbids become U+FFFD.
std::string escape_html(std::string_view text);

struct Cell {
  std::string text;
  std::optional<double> number;  // what `text` rounds; kept exactly in the markup
  bool bad = false;              // drawn as a warning
};
Cell text_cell(std::string text);
Cell number_cell(std::optional<double> number);   // "–" for none
Cell percent_cell(std::optional<double> number);  // with its sign

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<Cell>> rows;
};
std::string table_html(const Table& table);

// How a legend shows one series: the marks are those of svg_plot.h.
struct LegendEntry {
  std::string name;
  std::string swatch;  // markup: a small <svg>
};

struct Figure {
  std::string title;
  std::string note;  // what is drawn, in a sentence; may be empty
  std::string warning;
  std::vector<LegendEntry> legend;
  std::string drawing;  // markup: an <svg>
  Table numbers;        // shown folded, below
};
std::string figure_html(const Figure& figure);

// The line in place of a figure whose data is not there.
std::string missing_figure_html(const std::string& title, const std::string& why);
std::string warning_html(const std::string& text);
std::string heading_html(const std::string& text);
std::string paragraph_html(const std::string& text);
// Folded unless `open`; `body` is markup.
std::string details_html(const std::string& summary, const std::string& body, bool open);
// Figures beside each other where there is room; `body` is markup.
std::string figure_grid_html(const std::string& body);

std::string page_html(const std::string& title, const std::string& body);

}  // namespace engram::tools::bench

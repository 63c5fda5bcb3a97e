#include "tools/bench/html_page.h"

#include <cmath>
#include <utility>

#include "tools/bench/number_text.h"
#include "tools/bench/page_style.h"

namespace engram::tools::bench {
namespace {

constexpr std::string_view kReplacement = "\uFFFD";

std::string element(const std::string& tag, const std::string& attributes, std::string_view body) {
  std::string out = "<" + tag;
  if (!attributes.empty()) out.append(" ").append(attributes);
  return out.append(">").append(body).append("</").append(tag).append(">");
}

// Forbidden in XML 1.0: the control characters but tab, line feed and carriage return.
bool forbidden(char c) {
  const unsigned char byte = static_cast<unsigned char>(c);
  return byte < 0x20 && c != '\t' && c != '\n' && c != '\r';
}

std::string cell_html(const Cell& cell) {
  std::string attributes;
  if (cell.number) {
    constexpr size_t kLongText = 18;  // may be broken into lines
    std::string style = cell.text.size() > kLongText ? "n long" : "n";
    if (cell.bad) style += " bad";
    attributes = "class=\"" + style + "\"";
    attributes += " data-value=\"" + exact_number(*cell.number) + "\"";
  } else if (cell.bad) {
    attributes = "class=\"bad\"";
  }
  return element("td", attributes, escape_html(cell.text));
}

std::string legend_html(const std::vector<LegendEntry>& legend) {
  std::string entries;
  for (const LegendEntry& entry : legend) {
    entries += element("span", "class=\"key\"", entry.swatch + escape_html(entry.name));
  }
  return element("div", "class=\"legend\"", entries);
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if (forbidden(c)) {
      out += kReplacement;
    } else if (text.substr(i, 3) == "\xEF\xBF\xBE" || text.substr(i, 3) == "\xEF\xBF\xBF") {
      out += kReplacement;  // U+FFFE and U+FFFF are no characters of XML
      i += 2;
    } else {
      out += c;
    }
  }
  return out;
}

Cell text_cell(std::string text) {
  return {.text = std::move(text), .number = {}};
}

Cell number_cell(std::optional<double> number) {
  const bool known = number && !std::isnan(*number);
  if (!known) return text_cell("–");
  return {.text = short_number(*number), .number = number};
}

Cell percent_cell(std::optional<double> number) {
  const bool known = number && !std::isnan(*number);
  if (!known) return text_cell("–");
  return {.text = signed_percent(*number), .number = number};
}

std::string table_html(const Table& table) {
  std::string head;
  for (const std::string& name : table.header) head += element("th", "", escape_html(name));
  std::string out = head.empty() ? "" : element("thead", "", element("tr", "", head));
  std::string body;
  for (const std::vector<Cell>& row : table.rows) {
    std::string cells;
    for (const Cell& cell : row) cells += cell_html(cell);
    body += element("tr", "", cells) + "\n";
  }
  out += element("tbody", "", body);
  return element("div", "class=\"scroll\"", element("table", "", out)) + "\n";
}

std::string figure_html(const Figure& figure) {
  std::string out = element("h3", "", escape_html(figure.title)) + "\n";
  if (!figure.note.empty()) out += element("p", "class=\"note\"", escape_html(figure.note)) + "\n";
  if (!figure.warning.empty()) out += warning_html(figure.warning);
  if (!figure.legend.empty()) out += legend_html(figure.legend) + "\n";
  out += element("div", "class=\"scroll\"", figure.drawing) + "\n";
  if (!figure.numbers.rows.empty()) {
    out += details_html("Numbers", table_html(figure.numbers), false);
  }
  return element("figure", "", out) + "\n";
}

std::string missing_figure_html(const std::string& title, const std::string& why) {
  return element(
             "p", "class=\"missing\"",
             element("b", "", escape_html(title)) + " is left out: " + escape_html(why)) +
         "\n";
}

std::string warning_html(const std::string& text) {
  return element("p", "class=\"warning\"", "⚠ " + escape_html(text)) + "\n";
}

std::string heading_html(const std::string& text) {
  return element("h2", "", escape_html(text)) + "\n";
}

std::string paragraph_html(const std::string& text) {
  return element("p", "", escape_html(text)) + "\n";
}

std::string details_html(const std::string& summary, const std::string& body, bool open) {
  return element(
             "details", open ? "open=\"open\"" : "",
             element("summary", "", escape_html(summary)) + "\n" + body) +
         "\n";
}

std::string figure_grid_html(const std::string& body) {
  return element("div", "class=\"figures\"", "\n" + body) + "\n";
}

std::string page_html(const std::string& title, const std::string& body) {
  std::string head = "<meta charset=\"utf-8\"/>\n";
  head += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n";
  head += element("title", "", escape_html(title)) + "\n";
  head += element("style", "", kPageStyle) + "\n";
  std::string out = "<!DOCTYPE html>\n<html lang=\"en\">\n";
  out.append(element("head", "", head)).append("\n<body>\n");
  out.append(element("h1", "", escape_html(title))).append("\n").append(body);
  return out.append("</body>\n</html>\n");
}

}  // namespace engram::tools::bench

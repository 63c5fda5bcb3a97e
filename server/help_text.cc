#include "server/help_text.h"

#include <sstream>

namespace engram::server {
namespace {

constexpr size_t kNamesColumns = 34;
constexpr size_t kColumns = 100;

bool is_short(const std::string& name) {
  return name.size() == 2 && name[1] != '-';
}

std::string names_of(const Flag& flag) {
  std::string text;
  for (const std::string& alias : flag.aliases) {
    if (is_short(alias)) text += alias + ", ";
  }
  return text + (flag.is_switch ? "--[no-]" : "--") + flag.name;
}

std::string description_of(const Flag& flag) {
  std::string text = flag.help;
  std::string others;
  for (const std::string& alias : flag.aliases) {
    if (!is_short(alias)) others += (others.empty() ? "" : ", ") + alias;
  }
  for (const std::string& alias : flag.off_aliases) {
    others += (others.empty() ? "" : ", ") + alias + " (off)";
  }
  if (!others.empty()) text += ". Also " + others;
  const std::string value = flag.print();
  if (!value.empty()) text += " [" + value + "]";
  return text;
}

}  // namespace

std::string help_entry(const std::string& names, const std::string& text) {
  const std::string indent(kNamesColumns, ' ');
  std::string entry = "  " + names;
  if (entry.size() + 2 > kNamesColumns) entry += '\n' + indent;
  if (entry.size() < kNamesColumns) entry.resize(kNamesColumns, ' ');
  std::istringstream words(text);
  std::string word;
  size_t column = kNamesColumns;
  while (words >> word) {
    if (column > kNamesColumns && column + 1 + word.size() > kColumns) {
      entry += '\n' + indent;
      column = kNamesColumns;
    }
    if (column > kNamesColumns) {
      entry += ' ';
      ++column;
    }
    entry += word;
    column += word.size();
  }
  return entry + '\n';
}

std::string help_text(const std::vector<Flag>& flags) {
  std::string text;
  std::string group;
  for (const Flag& flag : flags) {
    if (flag.group != group) text += "\n" + flag.group + ":\n";
    group = flag.group;
    text += help_entry(names_of(flag), description_of(flag));
  }
  return text;
}

}  // namespace engram::server

#include "server/flags.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "memory/base/byte_text.h"

namespace engram::server {
namespace {

using memory::Result;

struct Unit {
  const char* name;
  double factor;
};

constexpr double kKibi = 1024.0;

constexpr Unit kCountUnits[] = {{"", 1}, {"k", kKibi}, {"m", kKibi* kKibi}};
constexpr Unit kTimeUnits[] = {{"", 1}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  return text;
}

// A finite number followed by a unit of the list.
template <size_t kUnits>
Result<double> parse_with_unit(
    const std::string& text, const Unit (&units)[kUnits], const char* expected) {
  double number = 0;
  const char* end = text.data() + text.size();
  const std::from_chars_result read = std::from_chars(text.data(), end, number);
  if (read.ec == std::errc() && std::isfinite(number)) {
    const std::string unit = lower(std::string(read.ptr, end));
    for (const Unit& one : units) {
      if (unit == one.name) return number * one.factor;
    }
  }
  return memory::invalid_argument(std::string("expected ") + expected + ", got \"" + text + "\"");
}

Result<int64_t> whole(const Result<double>& number, const std::string& text) {
  if (!number.ok()) return number.status();
  const double value = number.value();
  if (value != std::floor(value) || std::abs(value) > 9e15) {
    return memory::invalid_argument("expected a whole number, got \"" + text + "\"");
  }
  return static_cast<int64_t>(value);
}

}  // namespace

Result<int64_t> parse_count(const std::string& text) {
  return whole(parse_with_unit(text, kCountUnits, "a whole number such as 4096 or 32k"), text);
}

Result<int64_t> parse_bytes(const std::string& text) {
  return memory::parse_bytes(text);
}

Result<double> parse_seconds(const std::string& text) {
  return parse_with_unit(text, kTimeUnits, "a time such as 45, 45s, 250ms or 2m");
}

Result<double> parse_number(const std::string& text) {
  constexpr Unit kNone[] = {{"", 1}};
  return parse_with_unit(text, kNone, "a number");
}

Result<bool> parse_bool(const std::string& text) {
  const std::string word = lower(text);
  if (word == "true" || word == "1" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "0" || word == "no" || word == "off") return false;
  return memory::invalid_argument("expected true or false, got \"" + text + "\"");
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Levenshtein distance, one row at a time.
    std::vector<size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), size_t{0});
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i);
      for (size_t j = 1; j <= candidate.size(); ++j) {
        const size_t change = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = std::exchange(row[j], std::min({change, row[j] + 1, row[j - 1] + 1}));
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

}  // namespace engram::server

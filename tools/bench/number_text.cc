#include "tools/bench/number_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace engram::tools::bench {
namespace {

std::string printed(const char* format, double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

// "-1234567" to "-1,234,567".
std::string with_commas(const std::string& digits) {
  const size_t first = digits[0] == '-' ? 1 : 0;
  std::string out;
  for (size_t at = 0; at < digits.size(); ++at) {
    if (at > first && (digits.size() - at) % 3 == 0) out += ',';
    out += digits[at];
  }
  return out;
}

// Why a value has no digits; empty if it has.
std::string no_digits(double value) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  return "";
}

}  // namespace

std::string short_number(double value) {
  if (const std::string none = no_digits(value); !none.empty()) return none;
  const double size = std::abs(value);
  if (size >= 1e15) return printed("%.4g", value);
  if (size == std::floor(size) || size >= 1000) return with_commas(printed("%.0f", value));
  if (size >= 100) return printed("%.1f", value);
  if (size >= 10) return printed("%.2f", value);
  if (size >= 1) return printed("%.3f", value);
  return printed("%.3g", value);
}

std::string exact_number(double value) {
  if (std::isnan(value)) return "";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 40> text;
  const std::to_chars_result end = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end.ptr};
}

std::string axis_number(double value, bool billions) {
  if (const std::string none = no_digits(value); !none.empty()) return none;
  struct Prefix {
    double size;
    const char* text;
  };
  const std::array<Prefix, 4> prefixes = {
      {{1e12, "T"}, {1e9, billions ? "B" : "G"}, {1e6, "M"}, {1e3, "k"}}};
  if (std::abs(value) < 1e15) {
    for (const Prefix& p : prefixes) {
      // Just below, rounding would carry into the next prefix.
      if (std::abs(value) >= p.size * 0.9999995) return printed("%.4g", value / p.size) + p.text;
    }
  }
  return printed("%.4g", value);
}

std::string fine_number(double value) {
  const std::string none = no_digits(value);
  return none.empty() ? printed("%.10g", value) : none;
}

std::string signed_percent(double value) {
  const std::string none = no_digits(value);
  return none.empty() ? printed("%+.2f", value) : none;
}

}  // namespace engram::tools::bench

#include "memory/base/byte_text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace engram::memory {
namespace {

struct Unit {
  const char* name;
  double bytes;
};

constexpr double kKibi = 1024.0;
constexpr double kKilo = 1000.0;
constexpr Unit kUnits[] = {
    {"", 1},
    {"b", 1},
    {"k", kKibi},
    {"kib", kKibi},
    {"kb", kKilo},
    {"m", kKibi* kKibi},
    {"mib", kKibi* kKibi},
    {"mb", kKilo* kKilo},
    {"g", kKibi* kKibi* kKibi},
    {"gib", kKibi* kKibi* kKibi},
    {"gb", kKilo* kKilo* kKilo},
    {"t", kKibi* kKibi* kKibi* kKibi},
    {"tib", kKibi* kKibi* kKibi* kKibi},
    {"tb", kKilo* kKilo* kKilo* kKilo},
};
constexpr double kMost = 9e15;  // whole numbers are exact up to here

}  // namespace

std::string format_bytes(int64_t bytes) {
  if (bytes == 0) return "0";
  const double value = static_cast<double>(bytes);
  char text[32];
  if (bytes >= 1 << 30) {
    std::snprintf(text, sizeof text, "%.2f GiB", value / (1 << 30));
  } else if (bytes >= 1 << 20) {
    std::snprintf(text, sizeof text, "%.1f MiB", value / (1 << 20));
  } else {
    std::snprintf(text, sizeof text, "%.1f KiB", value / (1 << 10));
  }
  return text;
}

Result<int64_t> parse_bytes(const std::string& text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const std::from_chars_result read = std::from_chars(text.data(), end, number);
  if (read.ec == std::errc() && std::isfinite(number)) {
    std::string unit(read.ptr, end);
    std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) {
      return static_cast<char>(std::tolower(c));
    });
    for (const Unit& one : kUnits) {
      if (unit != one.name) continue;
      const double value = number * one.bytes;
      if (value == std::floor(value) && std::abs(value) <= kMost) {
        return static_cast<int64_t>(value);
      }
      return invalid_argument("expected a whole number of bytes, got \"" + text + "\"");
    }
  }
  return invalid_argument("expected a size such as 512MiB or 2GiB, got \"" + text + "\"");
}

}  // namespace engram::memory

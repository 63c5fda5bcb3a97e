// Numbers as text, for tables, axes and files. Pure functions; the C locale's point.
#pragma once

#include <string>

namespace engram::tools::bench {

// For people, about four significant digits: "0.00123", "12.34", "123,456"; "–" for NaN, "∞".
std::string short_number(double value);
// The fewest digits that read back as the same double; "" for NaN, "inf", "-inf".
std::string exact_number(double value);
// For axes: 1500 -> "1.5k", 1e9 -> "1G" (or "1B" where `billions`), 0.25 -> "0.25".
std::string axis_number(double value, bool billions);
// Ten significant digits, where the above would not tell neighbours apart.
std::string fine_number(double value);
// "+1.23"; "–" for NaN.
std::string signed_percent(double value);

}  // namespace engram::tools::bench

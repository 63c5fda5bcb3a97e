#include "engine/model/code_points.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace engram::engine {
namespace {

constexpr uint32_t kRuns[] = {
#include "engine/model/unicode_categories.inc"
};

// Indices are those of the table.
constexpr std::array<std::string_view, 29> kCategories = {
    "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe",
    "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"};

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kLongNames = {{
    {"Letter", "L"},
    {"Mark", "M"},
    {"Number", "N"},
    {"Punctuation", "P"},
    {"Symbol", "S"},
    {"Separator", "Z"},
    {"Other", "C"},
}};

constexpr char32_t kLastCode = 0x10FFFF;
constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;

std::string_view category_of(char32_t code) {
  const auto* run = std::upper_bound(
      std::begin(kRuns), std::end(kRuns), code,
      [](char32_t wanted, uint32_t entry) { return wanted < entry >> 8; });
  return kCategories[*(run - 1) & 0xFF];
}

}  // namespace

std::optional<CodePoints> CodePoints::of_category(std::string_view name) {
  for (const auto& [long_name, short_name] : kLongNames) {
    name = name == long_name ? short_name : name;
  }
  CodePoints set;
  for (size_t i = 0; i < std::size(kRuns); ++i) {
    const std::string_view category = kCategories[kRuns[i] & 0xFF];
    if (category == name || (name.size() == 1 && category[0] == name[0])) {
      const char32_t first = kRuns[i] >> 8;
      const char32_t end = i + 1 < std::size(kRuns) ? kRuns[i + 1] >> 8 : kLastCode + 1;
      if (!set.ranges_.empty() && set.ranges_.back().last + 1 == first) {
        set.ranges_.back().last = end - 1;
      } else {
        set.ranges_.push_back({first, end - 1});
      }
    }
  }
  if (set.ranges_.empty()) {
    return std::nullopt;
  }
  return set.intersection(all());  // surrogates are in no class
}

CodePoints CodePoints::white_space() {
  CodePoints set(0x9, 0xD);
  for (const auto& [first, last] : std::initializer_list<std::pair<char32_t, char32_t>>{
           {0x20, 0x20},
           {0x85, 0x85},
           {0xA0, 0xA0},
           {0x1680, 0x1680},
           {0x2000, 0x200A},
           {0x2028, 0x2029},
           {0x202F, 0x202F},
           {0x205F, 0x205F},
           {0x3000, 0x3000}}) {
    set.add(CodePoints(first, last));
  }
  return set;
}

CodePoints CodePoints::all() {
  CodePoints set(0, kFirstSurrogate - 1);
  set.add(CodePoints(kLastSurrogate + 1, kLastCode));
  return set;
}

void CodePoints::add(const CodePoints& other) {
  for (const Range& range : other.ranges_) {
    // The ranges that touch the new one become one with it.
    const auto first = std::lower_bound(
        ranges_.begin(), ranges_.end(), range.first,
        [](const Range& a, char32_t start) { return a.last + 1 < start; });
    auto end = first;
    Range merged = range;
    for (; end != ranges_.end() && end->first <= range.last + 1; ++end) {
      merged = {std::min(merged.first, end->first), std::max(merged.last, end->last)};
    }
    ranges_.insert(ranges_.erase(first, end), merged);
  }
}

CodePoints CodePoints::intersection(const CodePoints& other) const {
  CodePoints set = complement();
  set.add(other.complement());
  return set.complement();
}

CodePoints CodePoints::complement() const {
  CodePoints set;
  char32_t next = 0;
  CodePoints with_surrogates = *this;
  with_surrogates.add(CodePoints(kFirstSurrogate, kLastSurrogate));
  for (const Range& range : with_surrogates.ranges_) {
    if (range.first > next) {
      set.ranges_.push_back({next, range.first - 1});
    }
    next = range.last + 1;
  }
  if (next <= kLastCode) {
    set.ranges_.push_back({next, kLastCode});
  }
  return set;
}

bool CodePoints::contains(char32_t code) const {
  const auto after = std::upper_bound(
      ranges_.begin(), ranges_.end(), code,
      [](char32_t wanted, const Range& range) { return wanted < range.first; });
  return after != ranges_.begin() && code <= (after - 1)->last;
}

bool CodePoints::operator==(const CodePoints& other) const {
  return std::equal(
      ranges_.begin(), ranges_.end(), other.ranges_.begin(), other.ranges_.end(),
      [](const Range& a, const Range& b) { return a.first == b.first && a.last == b.last; });
}

bool is_number(char32_t code) {
  return category_of(code)[0] == 'N';
}

bool is_white_space(char32_t code) {
  if (code < 0x80) {
    return code == ' ' || (code >= 0x9 && code <= 0xD);
  }
  static const CodePoints kWhiteSpace = CodePoints::white_space();
  return kWhiteSpace.contains(code);
}

}  // namespace engram::engine

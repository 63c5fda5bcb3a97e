#include "engine/model/split_pattern.h"

#include <re2/re2.h>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

constexpr int64_t kMaxRegexBytes = int64_t{64} << 20;  // program and lazily built states

memory::Result<std::unique_ptr<re2::RE2>> compile_re2(
    const std::string& pattern, const std::string& shown) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_never_capture(true);
  options.set_max_mem(kMaxRegexBytes);
  auto regex = std::make_unique<re2::RE2>(pattern, options);
  if (!regex->ok()) {
    return memory::unimplemented("split pattern \"" + shown + "\": " + regex->error());
  }
  return regex;
}

std::optional<Span> match(
    const re2::RE2& regex, std::string_view text, size_t from, re2::RE2::Anchor anchor) {
  const re2::StringPiece all(text.data(), text.size());
  re2::StringPiece found;
  if (!regex.Match(all, from, text.size(), anchor, &found, 1)) {
    return std::nullopt;
  }
  const size_t begin = static_cast<size_t>(found.data() - text.data());
  return Span{begin, begin + found.size()};
}

bool all_white_space(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (!is_white_space(c.code)) {
      return false;
    }
    at += c.bytes;
  }
  return true;
}

}  // namespace

SplitPattern::SplitPattern(SplitPattern&&) noexcept = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) noexcept = default;
SplitPattern::~SplitPattern() = default;

memory::Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
  memory::Result<SplitSyntax> syntax = parse_split_syntax(pattern);
  if (!syntax.ok()) {
    return syntax.status();
  }
  return from_syntax(syntax.value(), std::string(pattern));
}

memory::Result<SplitPattern> SplitPattern::literal(std::string_view text) {
  return from_syntax(literal_split_syntax(text), std::string(text));
}

memory::Result<SplitPattern> SplitPattern::from_syntax(
    const SplitSyntax& syntax, const std::string& shown) {
  SplitPattern split;
  split.trims_white_space_ = syntax.trims_white_space;
  for (const auto& [source, target] :
       {std::pair(std::optional(syntax.whole), &split.whole_),
        std::pair(syntax.before, &split.before_), std::pair(syntax.after, &split.after_)}) {
    if (!source.has_value()) {
      continue;
    }
    memory::Result<std::unique_ptr<re2::RE2>> regex = compile_re2(*source, shown);
    if (!regex.ok()) {
      return regex.status();
    }
    *target = std::move(regex).value();
  }
  return split;
}

// The leftmost match at or behind `from`. `whole_` says \s+ where the pattern says \s+(?!\S), so a
// match that is a run of white space with a visible character behind it may have to give back its
// last character, or, if that was its only one, leave the place to the alternatives behind.
std::optional<Span> SplitPattern::search(std::string_view text, size_t from) const {
  while (true) {
    // Most patterns match everywhere: try right here before searching.
    std::optional<Span> found = match(*whole_, text, from, re2::RE2::ANCHOR_START);
    if (!found.has_value()) {
      found = match(*whole_, text, from, re2::RE2::UNANCHORED);
    }
    if (!found.has_value() || !trims_white_space_ || found->begin == found->end ||
        found->end == text.size() || is_white_space(utf8_at(text, found->end).code) ||
        !all_white_space(text.substr(found->begin, found->end - found->begin))) {
      return found;
    }
    if (before_ != nullptr &&
        match(*before_, text, found->begin, re2::RE2::ANCHOR_START).has_value()) {
      return found;
    }
    const size_t last = utf8_previous(text, found->end);
    if (last > found->begin) {
      return Span{found->begin, last};
    }
    if (after_ != nullptr) {
      const std::optional<Span> other = match(*after_, text, found->begin, re2::RE2::ANCHOR_START);
      if (other.has_value()) {
        return other;
      }
    }
    from = found->end;
  }
}

std::vector<Span> SplitPattern::find_all(std::string_view text) const {
  std::vector<Span> spans;
  size_t from = 0;
  while (from <= text.size()) {
    const std::optional<Span> found = search(text, from);
    if (!found.has_value()) {
      break;
    }
    const bool empty = found->begin == found->end;
    if (empty && !spans.empty() && spans.back().end == found->end) {
      from += from < text.size() ? utf8_at(text, from).bytes : 1;
      continue;
    }
    spans.push_back(*found);
    from = found->end;
  }
  return spans;
}

}  // namespace engram::engine

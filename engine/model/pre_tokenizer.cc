#include "engine/model/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

using Behavior = PreTokenizerSpec::Behavior;
using Kind = PreTokenizerSpec::Kind;

// ByteLevel's own pattern, GPT-2's.
constexpr std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A stretch of the text that the pattern matched, or one between matches.
struct Stretch {
  Span span;
  bool match;
};

std::vector<Stretch> stretches_of(const std::vector<Span>& matches, size_t size, bool invert) {
  std::vector<Stretch> stretches;
  stretches.reserve(matches.size() + 1);
  size_t done = 0;
  for (const Span& match : matches) {
    if (match.begin > done) {
      stretches.push_back({{done, match.begin}, invert});
    }
    stretches.push_back({match, !invert});
    done = match.end;
  }
  if (done < size) {
    stretches.push_back({{done, size}, invert});
  }
  return stretches;
}

// Digits' matches: each numeric character.
std::vector<Span> numbers_in(std::string_view text) {
  std::vector<Span> spans;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (is_number(c.code)) {
      spans.push_back({at, at + c.bytes});
    }
    at += c.bytes;
  }
  return spans;
}

// Whether stretch i belongs to the same word as stretch i - 1.
bool joins_previous(const std::vector<Stretch>& stretches, size_t i, Behavior behavior) {
  const bool before = stretches[i - 1].match;
  const bool here = stretches[i].match;
  switch (behavior) {
    case Behavior::kContiguous:
      return before == here;
    case Behavior::kMergedWithPrevious:
      return here && !before;
    case Behavior::kMergedWithNext:
      return before && !here;
    default:
      return false;
  }
}

void append_words(
    std::string_view text,
    const std::vector<Stretch>& stretches,
    Behavior behavior,
    std::vector<std::string_view>& words) {
  for (size_t i = 0; i < stretches.size();) {
    size_t end = i + 1;
    while (end < stretches.size() && joins_previous(stretches, end, behavior)) {
      ++end;
    }
    const size_t begin = stretches[i].span.begin;
    const size_t size = stretches[end - 1].span.end - begin;
    const bool removed = behavior == Behavior::kRemoved && stretches[i].match;
    if (size > 0 && !removed) {
      words.push_back(text.substr(begin, size));
    }
    i = end;
  }
}

}  // namespace

memory::Result<PreTokenizer> PreTokenizer::create(const std::vector<PreTokenizerSpec>& specs) {
  PreTokenizer pre_tokenizer;
  for (const PreTokenizerSpec& spec : specs) {
    std::optional<SplitPattern> pattern;
    const bool own = spec.kind == Kind::kByteLevel && spec.use_regex;
    if (own || spec.kind == Kind::kSplit) {
      memory::Result<SplitPattern> compiled = own ? SplitPattern::compile(kByteLevelPattern)
                                              : spec.pattern.regex
                                                  ? SplitPattern::compile(spec.pattern.text)
                                                  : SplitPattern::literal(spec.pattern.text);
      if (!compiled.ok()) {
        return compiled.status();
      }
      pattern = std::move(compiled).value();
    }
    pre_tokenizer.steps_.push_back({spec, std::move(pattern)});
  }
  return pre_tokenizer;
}

std::vector<std::string_view> PreTokenizer::split(
    std::string_view text, std::deque<std::string>& owned) const {
  std::vector<std::string_view> words;
  if (!text.empty()) {
    words.push_back(text);
  }
  for (const Step& step : steps_) {
    std::vector<std::string_view> cut;
    for (std::string_view word : words) {
      if (step.spec.kind == Kind::kByteLevel && step.spec.add_prefix_space && word[0] != ' ') {
        word = owned.emplace_back(" ").append(word);
      }
      if (step.spec.kind == Kind::kDigits) {
        const Behavior behavior =
            step.spec.individual_digits ? Behavior::kIsolated : Behavior::kContiguous;
        append_words(word, stretches_of(numbers_in(word), word.size(), false), behavior, cut);
      } else if (step.pattern.has_value()) {
        append_words(
            word, stretches_of(step.pattern->find_all(word), word.size(), step.spec.invert),
            step.spec.behavior, cut);
      } else {
        cut.push_back(word);
      }
    }
    words = std::move(cut);
  }
  return words;
}

}  // namespace engram::engine

#include "engine/model/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include <utility>

#include "engine/model/code_points.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

using Kind = NormalizerSpec::Kind;

const icu::Normalizer2* normalizer_of(Kind kind) {
  UErrorCode error = U_ZERO_ERROR;
  switch (kind) {
    case Kind::kNfc:
      return icu::Normalizer2::getNFCInstance(error);
    case Kind::kNfd:
      return icu::Normalizer2::getNFDInstance(error);
    case Kind::kNfkc:
      return icu::Normalizer2::getNFKCInstance(error);
    default:
      return icu::Normalizer2::getNFKDInstance(error);
  }
}

const icu::UnicodeSet* characters_of_unicode_9() {
  static const icu::UnicodeSet* const kSet = [] {
    UErrorCode error = U_ZERO_ERROR;
    auto* set = new icu::UnicodeSet(icu::UnicodeString("[:Age=9.0:]"), error);
    ENGRAM_CHECK(U_SUCCESS(error));
    set->freeze();
    return set;
  }();
  return kSet;
}

std::string normalized(Kind kind, const std::string& text) {
  const icu::Normalizer2* unfiltered = normalizer_of(kind);
  ENGRAM_CHECK(unfiltered != nullptr);  // ICU without its data
  const icu::FilteredNormalizer2 normalizer(*unfiltered, *characters_of_unicode_9());
  UErrorCode error = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  normalizer.normalizeUTF8(
      0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, error);
  ENGRAM_CHECK(U_SUCCESS(error));
  return out;
}

// Rust's char::to_lowercase, one character at a time.
std::string lowercase(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = utf8_at(text, at);
    if (c.code == 0x130) {
      out += "i\xCC\x87";  // the only character whose lower case is two
    } else {
      append_utf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c.code))), out);
    }
    at += c.bytes;
  }
  return out;
}

std::string strip(const std::string& text, bool left, bool right) {
  size_t begin = 0;
  size_t end = text.size();
  while (left && begin < end && is_white_space(utf8_at(text, begin).code)) {
    begin += utf8_at(text, begin).bytes;
  }
  while (right && begin < end && is_white_space(utf8_at(text, utf8_previous(text, end)).code)) {
    end = utf8_previous(text, end);
  }
  return text.substr(begin, end - begin);
}

std::string replace(
    const std::string& text, const SplitPattern& pattern, const std::string& content) {
  std::string out;
  size_t kept = 0;
  for (const Span& span : pattern.find_all(text)) {
    out.append(text, kept, span.begin - kept);
    out += content;
    kept = span.end;
  }
  return out.append(text, kept);
}

}  // namespace

memory::Result<Normalizer> Normalizer::create(const std::vector<NormalizerSpec>& specs) {
  Normalizer normalizer;
  for (const NormalizerSpec& spec : specs) {
    std::optional<SplitPattern> pattern;
    if (spec.kind == Kind::kReplace) {
      memory::Result<SplitPattern> compiled = spec.pattern.regex
                                                  ? SplitPattern::compile(spec.pattern.text)
                                                  : SplitPattern::literal(spec.pattern.text);
      if (!compiled.ok()) {
        return compiled.status();
      }
      pattern = std::move(compiled).value();
    }
    normalizer.steps_.push_back({spec, std::move(pattern)});
  }
  return normalizer;
}

std::string Normalizer::apply(std::string text) const {
  for (const Step& step : steps_) {
    switch (step.spec.kind) {
      case Kind::kLowercase:
        text = lowercase(text);
        break;
      case Kind::kStrip:
        text = strip(text, step.spec.strip_left, step.spec.strip_right);
        break;
      case Kind::kPrepend:
        text = text.empty() ? text : step.spec.content + text;
        break;
      case Kind::kReplace:
        text = replace(text, *step.pattern, step.spec.content);
        break;
      default:
        text = normalized(step.spec.kind, text);
    }
  }
  return text;
}

}  // namespace engram::engine

// Stop strings against a naive search over the whole text, however it is cut; then the rules of
// ending one by one.
#include "engine/run/output.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace engram::engine {
namespace {

// The first match to end, of those the longest; looks at every end and every stop string.
struct Oracle {
  std::string text;
  std::string matched;  // empty: none
};

Oracle search(const std::string& text, const std::vector<std::string>& stops, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0 &&
          stop.size() > longest.size()) {
        longest = stop;
      }
    }
    if (!longest.empty()) {
      return {text.substr(0, include ? end : end - longest.size()), longest};
    }
  }
  return {text, ""};
}

// Could the rest of `text` still turn its end into a stop string?
bool must_hold(const std::string& text, const std::vector<std::string>& stops, size_t sent) {
  for (const std::string& stop : stops) {
    for (size_t k = 1; k < stop.size() && k <= text.size(); ++k) {
      if (text.compare(text.size() - k, k, stop, 0, k) == 0 && sent > text.size() - k) return false;
    }
  }
  return true;
}

std::string random_text(std::mt19937_64& random, size_t size) {
  const std::string parts[] = {"a", "b", "ab", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
  std::string text;
  for (size_t i = 0; i < size; ++i) text += parts[random() % std::size(parts)];
  return text;
}

std::vector<int32_t> bytes_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

// Pushes all ids, or as many as it takes.
struct Run {
  std::string text;
  std::optional<Finish> finish;
  size_t pushed = 0;
};

Run run(ChoiceOutput& output, const std::vector<int32_t>& ids) {
  Run r;
  for (const int32_t id : ids) {
    if (r.finish.has_value()) break;
    r.text += output.push(id, &r.finish);
    ++r.pushed;
  }
  return r;
}

constexpr int64_t kLong = 1 << 20;
constexpr int32_t kEos = 256;

std::unique_ptr<Tokenizer> tokenizer() {
  return make_byte_tokenizer(300);
}

}  // namespace

TEST_CASE("stop matcher: agrees with a naive search, however the text is cut", "[output]") {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    std::mt19937_64 random(seed);
    std::vector<std::string> stops;
    for (uint64_t i = 0; i < 1 + random() % 4; ++i) {
      stops.push_back(random_text(random, 1 + random() % 5));
    }
    const bool include = random() % 2 == 0;
    const std::string text = random_text(random, random() % 40);
    CAPTURE(seed, text, stops);
    StopMatcher matcher(stops, include);
    const Oracle expected = search(text, stops, include);
    std::string sent;
    std::string matched;
    for (size_t at = 0; at < text.size() && matched.empty();) {
      const size_t size = std::min<size_t>(1 + random() % 6, text.size() - at);
      const StopMatcher::Piece piece = matcher.push(text.substr(at, size));
      at += size;
      sent += piece.text;
      if (piece.stop.has_value()) {
        matched = stops[*piece.stop];
      } else {
        REQUIRE(must_hold(text.substr(0, at), stops, sent.size()));
      }
    }
    if (matched.empty()) sent += matcher.pass("");
    REQUIRE(sent == expected.text);
    REQUIRE(matched == expected.matched);
  }
}

TEST_CASE("output: stop strings across tokens and code points", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    std::mt19937_64 random(seed);
    SamplingParams sampling;
    for (uint64_t i = 0; i < 1 + random() % 3; ++i) {
      sampling.stop.push_back(random_text(random, 1 + random() % 4));
    }
    sampling.include_stop_str_in_output = random() % 2 == 0;
    const std::string text = random_text(random, random() % 30);
    CAPTURE(seed, text, sampling.stop);
    const Oracle expected = search(text, sampling.stop, sampling.include_stop_str_in_output);
    ChoiceOutput output(*bytes, sampling, {}, kLong);
    Run r = run(output, bytes_of(text));
    if (!r.finish.has_value()) r.text += output.flush();
    REQUIRE(r.text == expected.text);
    REQUIRE(r.finish.has_value() == !expected.matched.empty());
    if (r.finish.has_value()) REQUIRE(r.finish->matched_string == expected.matched);
  }
}

TEST_CASE("output: end-of-sequence and stop ids", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  const std::vector<int32_t> eos = {kEos};
  SamplingParams sampling;
  sampling.stop_token_ids = {'x'};
  {
    ChoiceOutput output(*bytes, sampling, eos, kLong);
    const Run r = run(output, {'a', 'b', kEos, 'c'});
    CHECK(r.text == "ab");
    CHECK(r.pushed == 3);
    CHECK(r.finish->reason == FinishReason::kStop);
    CHECK(r.finish->matched_token == kEos);
  }
  {
    ChoiceOutput output(*bytes, sampling, eos, kLong);
    const Run r = run(output, {'a', 'x', 'c'});
    CHECK(r.text == "a");
    CHECK(r.finish->matched_token == 'x');
  }
  sampling.include_stop_str_in_output = true;
  {
    ChoiceOutput output(*bytes, sampling, eos, kLong);
    CHECK(run(output, {'a', 'x', 'c'}).text == "ax");
  }
  sampling.ignore_eos = true;
  {
    ChoiceOutput output(*bytes, sampling, eos, kLong);
    CHECK(output.continues_after(kEos));
    CHECK_FALSE(output.continues_after('x'));
    const Run r = run(output, {'a', kEos, 'c'});
    CHECK(r.text == "ac");
    CHECK_FALSE(r.finish.has_value());
  }
}

TEST_CASE("output: length, and half a code point at the end", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  SamplingParams sampling;
  ChoiceOutput output(*bytes, sampling, {}, 3);
  CHECK(output.continues_after('a'));
  const Run r = run(output, {'a', 'b', 0xe2, 'd'});
  CHECK(r.text == "ab\xef\xbf\xbd");
  CHECK(r.pushed == 3);
  CHECK(r.finish->reason == FinishReason::kLength);
  CHECK_FALSE(r.finish->matched_string.has_value());
}

TEST_CASE("output: a held-back end is sent when the length is reached", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  SamplingParams sampling;
  sampling.stop = {"abc"};
  ChoiceOutput output(*bytes, sampling, {}, 3);
  const Run r = run(output, {'x', 'a', 'b'});
  CHECK(r.text == "xab");
  CHECK(r.finish->reason == FinishReason::kLength);
}

TEST_CASE("output: nothing stops before min_tokens", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  const std::vector<int32_t> eos = {kEos};
  SamplingParams sampling;
  sampling.min_tokens = 3;
  sampling.stop = {"ab"};
  sampling.stop_token_ids = {'x'};
  ChoiceOutput output(*bytes, sampling, eos, kLong);
  for (const int64_t generated : {0, 2}) {
    CHECK(std::ranges::equal(output.banned(generated), std::vector<int32_t>{'x', kEos}));
  }
  std::optional<Finish> finish;
  CHECK(output.push('a', &finish) == "a");
  CHECK(output.push('b', &finish) == "b");
  CHECK(output.push('a', &finish) == "a");
  CHECK(output.banned(3).empty());
  // The "a" before belongs to the first three tokens and takes no part.
  CHECK(output.push('b', &finish) == "b");
  CHECK_FALSE(finish.has_value());
  CHECK(output.push('a', &finish) == "");
  CHECK(output.push('b', &finish) == "");
  CHECK(finish->matched_string == "ab");
}

TEST_CASE("output: echo does not take part in stop strings", "[output]") {
  const std::unique_ptr<Tokenizer> bytes = tokenizer();
  SamplingParams sampling;
  sampling.stop = {"ab"};
  ChoiceOutput output(*bytes, sampling, {}, kLong);
  CHECK(output.echo(bytes_of("xaba")) == "xaba");
  const Run r = run(output, {'b', 'c'});
  CHECK(r.text == "bc");
}

}  // namespace engram::engine

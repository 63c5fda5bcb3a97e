// Any text as a dataset of a load test: as a line of each kind, and as a large array that comes in
// pieces. What is accepted is within the bounds that plans are made from; the array's objects are
// the same ones whatever the pieces, and parsing the whole text at once finds as many.
#include <cstdint>
#include <string>
#include <string_view>

#include "memory/base/status.h"
#include "memory/io/json.h"
#include "tools/bench/dataset_lines.h"
#include "tools/bench/record_file.h"

namespace {

using engram::memory::Result;
namespace bench = engram::tools::bench;

constexpr const char* kWhere = "data:1";

template <typename T>
bool accepted(const Result<T>& result) {
  ENGRAM_CHECK(result.ok() || result.status().message().find(kWhere) == 0);
  return result.ok();
}

void check_lines(std::string_view text) {
  const Result<bench::CustomLine> custom = bench::parse_custom_line(text, kWhere);
  if (accepted(custom)) {
    ENGRAM_CHECK(custom.value().prompt.empty() != custom.value().ids.empty());
    ENGRAM_CHECK(custom.value().output_tokens != 0);
    ENGRAM_CHECK(custom.value().output_tokens <= bench::kMaxLineTokens);
  }
  const Result<bench::TraceLine> trace = bench::parse_trace_line(text, kWhere);
  if (accepted(trace)) {
    ENGRAM_CHECK(trace.value().at_s >= 0 && trace.value().at_s <= 1e10);
    ENGRAM_CHECK(trace.value().input_tokens > 0);
    ENGRAM_CHECK(trace.value().input_tokens <= bench::kMaxLineTokens);
    ENGRAM_CHECK(trace.value().output_tokens >= 0);
    ENGRAM_CHECK(trace.value().output_tokens <= bench::kMaxLineTokens);
  }
  static_cast<void>(accepted(bench::parse_conversation(text, kWhere)));
}

void check_array(std::string_view text, size_t piece) {
  bench::ArrayScanner whole("data");
  const bool good = whole.feed(text).ok() && whole.finish().ok();
  bench::ArrayScanner parts("data");
  bool fed = true;
  for (size_t at = 0; fed && at < text.size(); at += piece) {
    fed = parts.feed(text.substr(at, piece)).ok();
  }
  ENGRAM_CHECK((fed && parts.finish().ok()) == good);
  ENGRAM_CHECK(whole.places().size() == parts.places().size());
  for (size_t i = 0; i < whole.places().size(); ++i) {
    ENGRAM_CHECK(whole.places()[i].offset == parts.places()[i].offset);
    ENGRAM_CHECK(whole.places()[i].bytes == parts.places()[i].bytes);
    ENGRAM_CHECK(whole.places()[i].line == parts.places()[i].line);
  }
  const auto json = engram::memory::parse_json(text, "data");
  if (!json.ok() || !json.value().is_array()) return;
  for (const auto& value : json.value()) {
    if (!value.is_object()) return;
  }
  ENGRAM_CHECK(good);
  ENGRAM_CHECK(json.value().size() == whole.places().size());
  for (const bench::RecordPlace& place : whole.places()) {
    const std::string_view object =
        text.substr(static_cast<size_t>(place.offset), static_cast<size_t>(place.bytes));
    ENGRAM_CHECK(engram::memory::parse_json(object, "data").ok());
    static_cast<void>(accepted(bench::parse_conversation(object, kWhere)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  check_lines(text);
  check_array(text, 1 + data[0] % 16);
  return 0;
}

// Any bytes as tokenizer.json, and behind a zero byte as tokenizer_config.json. What loads must
// encode and decode texts of all kinds, incremental decoding must agree with decoding at once, and
// the canonical map must be numbered in order.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/model/canonical_ids.h"
#include "engine/model/tokenizer.h"
#include "memory/base/status.h"

namespace {

using engram::engine::IncrementalDecoder;
using engram::engine::Tokenizer;

void check_text(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.encode(text, true);
  for (const int32_t id : ids) {
    ENGRAM_CHECK(id >= 0 && id < tokenizer.size());
  }
  ids.push_back(-1);
  ids.push_back(static_cast<int32_t>(tokenizer.size()));
  for (const bool skip_special : {false, true}) {
    IncrementalDecoder decoder(tokenizer, skip_special);
    std::string pieces;
    for (const int32_t id : ids) {
      pieces += decoder.push(id);
    }
    pieces += decoder.flush();
    ENGRAM_CHECK(pieces == tokenizer.decode(ids, skip_special));
  }
}

void check_canonical_ids(const Tokenizer& tokenizer) {
  const engram::engine::CanonicalIds ids = engram::engine::derive_canonical_ids(tokenizer);
  int32_t next = 0;
  for (const int32_t id : ids.map) {
    ENGRAM_CHECK(id <= next);
    next = std::max(next, id + 1);
  }
  ENGRAM_CHECK(next == ids.count);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(input.find('\0'), input.size());
  const std::string config = zero < input.size() ? input.substr(zero + 1) : "";
  engram::memory::Result<std::unique_ptr<Tokenizer>> tokenizer =
      engram::engine::parse_tokenizer(input.substr(0, zero), config);
  // Ids may go up to four millions: what is slow for so many is not worth the fuzzer's time.
  if (!tokenizer.ok() || tokenizer.value()->size() > 4096) {
    return 0;
  }
  check_canonical_ids(*tokenizer.value());
  check_text(
      *tokenizer.value(), "Don't  \n\tthe 123 caf\u00e9 \u65e5\u672c <|end|>\xff \xf0\x9f\x98");
  check_text(*tokenizer.value(), std::string(200, 'a') + std::string(200, ' '));
  check_text(*tokenizer.value(), std::string_view(input).substr(0, 1000));
  return 0;
}

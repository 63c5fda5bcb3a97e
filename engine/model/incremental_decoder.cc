#include "engine/model/tokenizer.h"
#include "engine/model/utf8.h"

namespace engram::engine {

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string IncrementalDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_.is_special(id)) {
    return "";
  }
  pending_ += tokenizer_.token_bytes(id);
  std::string text;
  size_t at = 0;
  while (at < pending_.size()) {
    const Utf8Char c = utf8_at(pending_, at);
    if (c.truncated) {
      break;  // the next id may complete it
    }
    if (c.valid) {
      text.append(pending_, at, c.bytes);
    } else {
      append_utf8(kReplacement, text);
    }
    at += c.bytes;
  }
  pending_.erase(0, at);
  return text;
}

std::string IncrementalDecoder::flush() {
  std::string text = replace_invalid_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace engram::engine

// The pre-tokenizer of a tokenizer.json: cuts text into the words that BPE never crosses.
// Immutable, many threads.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/split_pattern.h"
#include "engine/model/tokenizer_spec.h"
#include "memory/base/status.h"

namespace engram::engine {

class PreTokenizer {
 public:
  // specs end in kByteLevel. UNIMPLEMENTED for a pattern that is not supported.
  static memory::Result<PreTokenizer> create(const std::vector<PreTokenizerSpec>& specs);

  // The words of a text of valid UTF-8, none of them empty. They point into the text, or into
  // `owned` where a space was put in front.
  std::vector<std::string_view> split(std::string_view text, std::deque<std::string>& owned) const;

 private:
  struct Step {
    PreTokenizerSpec spec;
    std::optional<SplitPattern> pattern;  // of kSplit, and of kByteLevel with its regex
  };
  std::vector<Step> steps_;
};

}  // namespace engram::engine

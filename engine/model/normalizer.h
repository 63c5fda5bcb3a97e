// The normalizer of a tokenizer.json: what is done to text before it is cut. Immutable, many
// threads.
//
// NFC, NFD, NFKC and NFKD are those of Unicode 9.0, as the `tokenizers` package has them: younger
// characters are left as they are (ICU's tables, filtered by age).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/split_pattern.h"
#include "engine/model/tokenizer_spec.h"
#include "memory/base/status.h"

namespace engram::engine {

class Normalizer {
 public:
  // UNIMPLEMENTED for a pattern that is not supported.
  static memory::Result<Normalizer> create(const std::vector<NormalizerSpec>& specs);

  bool empty() const { return steps_.empty(); }
  // text is valid UTF-8
  std::string apply(std::string text) const;

 private:
  struct Step {
    NormalizerSpec spec;
    std::optional<SplitPattern> pattern;  // of kReplace
  };
  std::vector<Step> steps_;
};

}  // namespace engram::engine

// What a tokenizer.json says, checked and in plain values. The JSON library ends here.
//
// parse_tokenizer_spec() answers INVALID_ARGUMENT for what cannot be meant (wrong types, ids out of
// range or used twice, merges of unknown tokens, duplicate keys, nesting without end) and
// UNIMPLEMENTED for a component that is not known, both naming the file and the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

inline constexpr int32_t kMaxTokenId = (1 << 22) - 1;

struct PatternSpec {
  std::string text;
  bool regex = false;  // otherwise the text stands for itself
};

struct NormalizerSpec {
  enum class Kind { kNfc, kNfd, kNfkc, kNfkd, kLowercase, kStrip, kPrepend, kReplace };
  Kind kind = Kind::kNfc;
  bool strip_left = false;
  bool strip_right = false;
  PatternSpec pattern;  // kReplace
  std::string content;  // kReplace, kPrepend
};

struct PreTokenizerSpec {
  enum class Kind { kSplit, kDigits, kByteLevel };
  enum class Behavior {
    kRemoved,
    kIsolated,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous,
  };
  Kind kind = Kind::kByteLevel;
  PatternSpec pattern;                      // kSplit
  Behavior behavior = Behavior::kIsolated;  // kSplit
  bool invert = false;                      // kSplit
  bool individual_digits = false;           // kDigits
  bool add_prefix_space = false;            // kByteLevel
  bool use_regex = false;                   // kByteLevel
};

struct AddedTokenSpec {
  int32_t id = 0;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
};

struct BpeSpec {
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;
  };
  std::vector<std::pair<std::string, int32_t>> vocab;  // vocabulary strings, no id twice
  std::vector<Merge> merges;                           // in the order of their rank
  std::optional<int32_t> unk;
  bool fuse_unk = false;
  bool ignore_merges = false;
};

struct TokenizerSpec {
  std::vector<AddedTokenSpec> added_tokens;      // no id and no content twice
  std::vector<NormalizerSpec> normalizers;       // in their order
  std::vector<PreTokenizerSpec> pre_tokenizers;  // the last one is kByteLevel, no other is
  std::vector<int32_t> prefix;                   // what add_special puts before and behind the text
  std::vector<int32_t> suffix;
  BpeSpec bpe;
};

// config_json: the text of tokenizer_config.json, empty where there is none. Its add_bos_token and
// add_eos_token, where present, decide whether `prefix` begins with bos_token and `suffix` ends
// with eos_token, whatever the post-processor says (as transformers 5 has it); exactly one is put.
memory::Result<TokenizerSpec> parse_tokenizer_spec(
    const std::string& tokenizer_json, const std::string& config_json);

}  // namespace engram::engine

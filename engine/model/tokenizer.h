// Text to token ids and back, from a Hugging Face tokenizer.json (byte-level BPE).
//
// A Tokenizer is immutable after loading and may be used by many threads. Encoding is linear in
// the text's length for bounded pre-token length and n log n at worst; it never fails: invalid
// UTF-8 is encoded as its bytes' U+FFFD replacement, as HF does with text that was decoded
// lossily. Texts are below 2 GiB.
//
// Ids and texts are those of the `tokenizers` package. What is above it is left to callers: a
// file's truncation and padding do not apply, and decoding does not clean up spaces before
// punctuation.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // add_special: put the begin and end tokens of tokenizer.json's post-processor; where
  // tokenizer_config.json says add_bos_token or add_eos_token, that decides (transformers 5 does
  // the same, 4 did for Llama only), and the token is there once. Added tokens written out in the
  // text become their ids, a begin token too: it is then there twice, as in HF.
  virtual std::vector<int32_t> encode(std::string_view text, bool add_special) const = 0;
  // Invalid UTF-8 becomes U+FFFD. Ids outside the vocabulary decode to nothing.
  virtual std::string decode(const std::vector<int32_t>& ids, bool skip_special) const = 0;
  // The bytes a token decodes to. Empty for unknown ids. An added token is its text, except that
  // one written wholly in the byte alphabet stands for those bytes, as in HF ("é" is byte 0xE9).
  virtual std::string_view token_bytes(int32_t id) const = 0;
  // The vocabulary string as written in tokenizer.json. Empty for unknown ids.
  virtual std::string_view token_string(int32_t id) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  // Whether the id is one of tokenizer.json's added_tokens.
  virtual bool is_added(int32_t id) const = 0;
  // The highest id plus one, added tokens included: len(tokenizer) in HF where no id is left out.
  virtual int64_t size() const = 0;
};

// DIRECTORY/tokenizer.json, with add_bos_token / add_eos_token of tokenizer_config.json if there.
// INVALID_ARGUMENT names the file and what is wrong; UNIMPLEMENTED names a component (a normalizer
// or pre-tokenizer type) this version does not know.
memory::Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& directory);
memory::Result<std::unique_ptr<Tokenizer>> parse_tokenizer(
    const std::string& tokenizer_json, const std::string& tokenizer_config_json);

// Ids 0..255 are bytes, all others decode to nothing. For simulated and dummy-weight engines, which
// have no vocabulary of their own.
std::unique_ptr<Tokenizer> make_byte_tokenizer(int64_t size);

// Turns a growing list of ids into text, never ending in the middle of a code point. One sequence,
// one thread. The concatenation of all push() results and flush() equals decode() of all ids.
class IncrementalDecoder {
 public:
  IncrementalDecoder(const Tokenizer& tokenizer, bool skip_special);
  // Text that became certain with this id; may be empty.
  std::string push(int32_t id);
  // What is left at the end, invalid bytes replaced by U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;  // bytes of an incomplete code point
};

}  // namespace engram::engine

#include "engine/model/tokenizer.h"

#include <algorithm>
#include <deque>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "engine/model/added_tokens.h"
#include "engine/model/bpe.h"
#include "engine/model/byte_alphabet.h"
#include "engine/model/normalizer.h"
#include "engine/model/pre_tokenizer.h"
#include "engine/model/tokenizer_spec.h"
#include "engine/model/utf8.h"

namespace engram::engine {
namespace {

class BpeTokenizer : public Tokenizer {
 public:
  static memory::Result<std::unique_ptr<Tokenizer>> create(const TokenizerSpec& spec) {
    memory::Result<Normalizer> normalizer = Normalizer::create(spec.normalizers);
    if (!normalizer.ok()) {
      return normalizer.status();
    }
    memory::Result<PreTokenizer> pre_tokenizer = PreTokenizer::create(spec.pre_tokenizers);
    if (!pre_tokenizer.ok()) {
      return pre_tokenizer.status();
    }
    return std::unique_ptr<Tokenizer>(
        new BpeTokenizer(spec, std::move(normalizer).value(), std::move(pre_tokenizer).value()));
  }

  std::vector<int32_t> encode(std::string_view text, bool add_special) const override {
    std::vector<int32_t> ids;
    if (add_special) {
      ids = prefix_;
    }
    std::string replaced;
    if (!is_valid_utf8(text)) {
      replaced = replace_invalid_utf8(text);
      text = replaced;
    }
    for (const AddedTokens::Piece& piece : added_.split(text)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
      } else {
        encode_normalized(piece.text, ids);
      }
    }
    if (add_special) {
      ids.insert(ids.end(), suffix_.begin(), suffix_.end());
    }
    return ids;
  }

  std::string decode(const std::vector<int32_t>& ids, bool skip_special) const override {
    std::string bytes;
    for (const int32_t id : ids) {
      if (!skip_special || !is_special(id)) {
        bytes += token_bytes(id);
      }
    }
    return is_valid_utf8(bytes) ? bytes : replace_invalid_utf8(bytes);
  }

  std::string_view token_bytes(int32_t id) const override {
    const Token* token = find(id);
    return token != nullptr ? std::string_view(token->bytes) : std::string_view();
  }
  std::string_view token_string(int32_t id) const override {
    const Token* token = find(id);
    return token != nullptr ? std::string_view(token->text) : std::string_view();
  }
  bool is_special(int32_t id) const override {
    const Token* token = find(id);
    return token != nullptr && token->special;
  }
  bool is_added(int32_t id) const override {
    const Token* token = find(id);
    return token != nullptr && token->added;
  }
  int64_t size() const override { return static_cast<int64_t>(tokens_.size()); }

 private:
  struct Token {
    std::string text;   // as written in tokenizer.json
    std::string bytes;  // what it decodes to
    bool special = false;
    bool added = false;
  };

  BpeTokenizer(const TokenizerSpec& spec, Normalizer normalizer, PreTokenizer pre_tokenizer)
      : normalizer_(std::move(normalizer)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        bpe_(spec.bpe),
        prefix_(spec.prefix),
        suffix_(spec.suffix) {
    for (const auto& [text, id] : spec.bpe.vocab) {
      put(id, text);
    }
    for (const AddedTokenSpec& token : spec.added_tokens) {
      put(token.id, token.content);
      Token& entry = tokens_[static_cast<size_t>(token.id)];
      entry.added = true;
      entry.special = token.special;
    }
    // Of normalized tokens that become equal, special ones count first.
    for (const bool special : {true, false}) {
      for (const AddedTokenSpec& token : spec.added_tokens) {
        if (token.special != special) {
          continue;
        }
        if (token.normalized) {
          added_normalized_.add(normalizer_.apply(token.content), token);
        } else {
          added_.add(token.content, token);
        }
      }
    }
  }

  void put(int32_t id, const std::string& text) {
    const size_t index = static_cast<size_t>(id);
    if (index >= tokens_.size()) {
      tokens_.resize(index + 1);
    }
    tokens_[index].text = text;
    // A text with a character outside the byte alphabet stands for itself.
    tokens_[index].bytes = bytes_of_vocabulary_string(text).value_or(text);
  }

  const Token* find(int32_t id) const {
    return id >= 0 && id < size() ? &tokens_[static_cast<size_t>(id)] : nullptr;
  }

  void encode_normalized(std::string_view text, std::vector<int32_t>& ids) const {
    std::string normalized;
    if (!normalizer_.empty()) {
      normalized = normalizer_.apply(std::string(text));
      text = normalized;
    }
    for (const AddedTokens::Piece& piece : added_normalized_.split(text)) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      std::deque<std::string> owned;
      for (const std::string_view word : pre_tokenizer_.split(piece.text, owned)) {
        bpe_.encode(word, ids);
      }
    }
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  AddedTokens added_;             // found in the text as it comes
  AddedTokens added_normalized_;  // found in normalized text
  std::vector<int32_t> prefix_;
  std::vector<int32_t> suffix_;
  std::vector<Token> tokens_;  // by id; an id that is not used has no text
};

// Nothing if the file is not there.
memory::Result<std::optional<std::string>> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) {
    return std::optional<std::string>();
  }
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad() || text.bad()) {
    return memory::data_loss(path + ": cannot be read");
  }
  return std::optional<std::string>(text.str());
}

}  // namespace

memory::Result<std::unique_ptr<Tokenizer>> parse_tokenizer(
    const std::string& tokenizer_json, const std::string& tokenizer_config_json) {
  const memory::Result<TokenizerSpec> spec =
      parse_tokenizer_spec(tokenizer_json, tokenizer_config_json);
  if (!spec.ok()) {
    return spec.status();
  }
  return BpeTokenizer::create(spec.value());
}

memory::Result<std::unique_ptr<Tokenizer>> load_tokenizer(const std::string& directory) {
  const memory::Result<std::optional<std::string>> json = read_file(directory + "/tokenizer.json");
  if (!json.ok()) {
    return json.status();
  }
  if (!json.value().has_value()) {
    return memory::not_found(directory + "/tokenizer.json: cannot be opened");
  }
  const memory::Result<std::optional<std::string>> config =
      read_file(directory + "/tokenizer_config.json");
  if (!config.ok()) {
    return config.status();
  }
  return parse_tokenizer(*json.value(), config.value().value_or(""));
}

}  // namespace engram::engine

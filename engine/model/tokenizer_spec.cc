#include "engine/model/tokenizer_spec.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "engine/model/bpe_spec_reader.h"
#include "engine/model/json_cursor.h"

namespace engram::engine {
namespace {

constexpr size_t kMaxComponents = 64;

memory::Status unknown_type(const JsonCursor& field, const std::string& type) {
  return field.unsupported("type " + type);
}

memory::Status read_type(const JsonCursor& field, std::string& type) {
  ENGRAM_RETURN_IF_ERROR(field.expect_object());
  return field["type"].read(type);
}

// {"String": "..."} or {"Regex": "..."}
memory::Status read_pattern(const JsonCursor& field, PatternSpec& pattern) {
  ENGRAM_RETURN_IF_ERROR(field.expect_object());
  pattern.regex = !field["Regex"].is_null();
  if (pattern.regex) {
    return field["Regex"].read(pattern.text);
  }
  if (field["String"].is_null()) {
    return field.expected("a String or a Regex");
  }
  return field["String"].read(pattern.text);
}

// Calls `add` for the component, or for each of the components of a Sequence (of Sequences).
template <typename Add>
memory::Status for_each_component(
    const JsonCursor& field, const char* list_name, size_t& count, const Add& add) {
  if (field.is_null()) {
    return {};
  }
  std::string type;
  ENGRAM_RETURN_IF_ERROR(read_type(field, type));
  if (type != "Sequence") {
    if (++count > kMaxComponents) {
      return field.expected("at most " + std::to_string(kMaxComponents) + " components");
    }
    return add(field, type);
  }
  const JsonCursor list = field[list_name];
  ENGRAM_RETURN_IF_ERROR(list.expect_array());
  for (size_t i = 0; i < list.size(); ++i) {
    if (list.at(i).is_null()) {
      return list.at(i).expected("an object");
    }
    ENGRAM_RETURN_IF_ERROR(for_each_component(list.at(i), list_name, count, add));
  }
  return {};
}

memory::Status read_normalizer(
    const JsonCursor& field, const std::string& type, NormalizerSpec& spec) {
  using Kind = NormalizerSpec::Kind;
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    spec.kind = type == "NFC"    ? Kind::kNfc
                : type == "NFD"  ? Kind::kNfd
                : type == "NFKC" ? Kind::kNfkc
                                 : Kind::kNfkd;
    return {};
  }
  if (type == "Lowercase") {
    spec.kind = Kind::kLowercase;
    return {};
  }
  if (type == "Strip") {
    spec.kind = Kind::kStrip;
    ENGRAM_RETURN_IF_ERROR(field["strip_left"].read_optional(spec.strip_left));
    return field["strip_right"].read_optional(spec.strip_right);
  }
  if (type == "Prepend") {
    spec.kind = Kind::kPrepend;
    return field["prepend"].read(spec.content);
  }
  if (type == "Replace") {
    spec.kind = Kind::kReplace;
    ENGRAM_RETURN_IF_ERROR(read_pattern(field["pattern"], spec.pattern));
    return field["content"].read(spec.content);
  }
  return unknown_type(field, type);
}

memory::Status read_behavior(const JsonCursor& field, PreTokenizerSpec::Behavior& behavior) {
  using Behavior = PreTokenizerSpec::Behavior;
  static const std::unordered_map<std::string, Behavior> kBehaviors = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
  };
  std::string name;
  ENGRAM_RETURN_IF_ERROR(field.read(name));
  const auto found = kBehaviors.find(name);
  if (found == kBehaviors.end()) {
    return field.expected("a split behavior");
  }
  behavior = found->second;
  return {};
}

memory::Status read_pre_tokenizer(
    const JsonCursor& field, const std::string& type, PreTokenizerSpec& spec) {
  using Kind = PreTokenizerSpec::Kind;
  if (type == "Split") {
    spec.kind = Kind::kSplit;
    ENGRAM_RETURN_IF_ERROR(read_pattern(field["pattern"], spec.pattern));
    ENGRAM_RETURN_IF_ERROR(read_behavior(field["behavior"], spec.behavior));
    return field["invert"].read_optional(spec.invert);
  }
  if (type == "Digits") {
    spec.kind = Kind::kDigits;
    return field["individual_digits"].read_optional(spec.individual_digits);
  }
  if (type == "ByteLevel") {
    spec.kind = Kind::kByteLevel;
    spec.use_regex = true;
    ENGRAM_RETURN_IF_ERROR(field["use_regex"].read_optional(spec.use_regex));
    return field["add_prefix_space"].read_optional(spec.add_prefix_space);
  }
  return unknown_type(field, type);
}

memory::Status read_normalizers(const JsonCursor& root, TokenizerSpec& spec) {
  size_t count = 0;
  return for_each_component(
      root["normalizer"], "normalizers", count,
      [&spec](const JsonCursor& field, const std::string& type) {
        return read_normalizer(field, type, spec.normalizers.emplace_back());
      });
}

// ByteLevel must come last: what is behind it would see bytes written as characters.
memory::Status read_pre_tokenizers(const JsonCursor& root, TokenizerSpec& spec) {
  const auto byte_level = [&spec] {
    return !spec.pre_tokenizers.empty() &&
           spec.pre_tokenizers.back().kind == PreTokenizerSpec::Kind::kByteLevel;
  };
  size_t count = 0;
  ENGRAM_RETURN_IF_ERROR(for_each_component(
      root["pre_tokenizer"], "pretokenizers", count,
      [&](const JsonCursor& field, const std::string& type) -> memory::Status {
        if (byte_level()) {
          return field.unsupported("a " + type + " behind ByteLevel");
        }
        return read_pre_tokenizer(field, type, spec.pre_tokenizers.emplace_back());
      }));
  if (!byte_level()) {
    return root["pre_tokenizer"].unsupported("BPE without ByteLevel at the end");
  }
  return {};
}

// ByteLevel, with Fuse around it at most: the decoder that tokenizer.cc implements.
memory::Status check_decoder(const JsonCursor& root) {
  bool byte_level = false;
  size_t count = 0;
  ENGRAM_RETURN_IF_ERROR(for_each_component(
      root["decoder"], "decoders", count,
      [&byte_level](const JsonCursor& field, const std::string& type) -> memory::Status {
        const bool again = type == "ByteLevel" && byte_level;
        if ((type != "ByteLevel" && type != "Fuse") || again) {
          return unknown_type(field, type);
        }
        byte_level = byte_level || type == "ByteLevel";
        return {};
      }));
  if (!byte_level) {
    return root["decoder"].unsupported("a decoder without ByteLevel");
  }
  return {};
}

memory::Status read_added_token(const JsonCursor& field, AddedTokenSpec& token) {
  ENGRAM_RETURN_IF_ERROR(field.expect_object());
  ENGRAM_RETURN_IF_ERROR(field["id"].read(0, kMaxTokenId, token.id));
  ENGRAM_RETURN_IF_ERROR(field["content"].read(token.content));
  if (token.content.empty()) {
    return field["content"].expected("a text");
  }
  ENGRAM_RETURN_IF_ERROR(field["special"].read_optional(token.special));
  token.normalized = !token.special;
  ENGRAM_RETURN_IF_ERROR(field["normalized"].read_optional(token.normalized));
  ENGRAM_RETURN_IF_ERROR(field["single_word"].read_optional(token.single_word));
  ENGRAM_RETURN_IF_ERROR(field["lstrip"].read_optional(token.lstrip));
  return field["rstrip"].read_optional(token.rstrip);
}

using Vocabulary = std::unordered_map<std::string_view, int32_t>;

// Ids as `tokenizers` gives them: the vocabulary's own, otherwise the next free one.
memory::Status read_added_tokens(
    const JsonCursor& root, const Vocabulary& vocabulary, std::vector<AddedTokenSpec>& tokens) {
  const JsonCursor list = root["added_tokens"];
  if (list.is_null()) {
    return {};
  }
  ENGRAM_RETURN_IF_ERROR(list.expect_array());
  const int32_t vocabulary_size = static_cast<int32_t>(vocabulary.size());
  int32_t highest = -1;
  std::unordered_set<std::string> contents;
  std::unordered_set<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonCursor field = list.at(i);
    AddedTokenSpec token;
    ENGRAM_RETURN_IF_ERROR(read_added_token(field, token));
    const auto known = vocabulary.find(token.content);
    const int32_t id =
        known != vocabulary.end() ? known->second : std::max(vocabulary_size, highest + 1);
    if (token.id != id) {
      return field["id"].expected(std::to_string(id));
    }
    if (!contents.insert(token.content).second || !ids.insert(id).second) {
      return field.expected("a token that is not there yet");
    }
    highest = std::max(highest, id);
    tokens.push_back(std::move(token));
  }
  return {};
}

struct AffixReader {
  const Vocabulary& all_tokens;
  int32_t tokens;  // ids are below this
  TokenizerSpec& spec;

  // A later processor puts its tokens around those of an earlier one.
  memory::Status add_template(const JsonCursor& field) {
    const JsonCursor single = field["single"];
    ENGRAM_RETURN_IF_ERROR(single.expect_array());
    std::vector<int32_t> around[2];
    int texts = 0;
    for (size_t i = 0; i < single.size(); ++i) {
      const JsonCursor piece = single.at(i);
      ENGRAM_RETURN_IF_ERROR(piece.expect_object());
      if (!piece["Sequence"].is_null()) {
        ++texts;
        continue;
      }
      if (piece["SpecialToken"].is_null()) {
        return piece.expected("a Sequence or a SpecialToken");
      }
      ENGRAM_RETURN_IF_ERROR(read_special(field, piece["SpecialToken"], around[texts > 0 ? 1 : 0]));
    }
    if (texts != 1) {
      return single.expected("one Sequence");
    }
    spec.prefix.insert(spec.prefix.begin(), around[0].begin(), around[0].end());
    spec.suffix.insert(spec.suffix.end(), around[1].begin(), around[1].end());
    return {};
  }

  memory::Status read_special(
      const JsonCursor& field, const JsonCursor& special, std::vector<int32_t>& ids) const {
    std::string name;
    ENGRAM_RETURN_IF_ERROR(special.expect_object());
    ENGRAM_RETURN_IF_ERROR(special["id"].read(name));
    ENGRAM_RETURN_IF_ERROR(field["special_tokens"].expect_object());
    const JsonCursor token = field["special_tokens"][name.c_str()];
    ENGRAM_RETURN_IF_ERROR(token.expect_object());
    const JsonCursor list = token["ids"];
    ENGRAM_RETURN_IF_ERROR(list.expect_array());
    for (size_t i = 0; i < list.size(); ++i) {
      int32_t id = 0;
      ENGRAM_RETURN_IF_ERROR(list.at(i).read(0, tokens - 1, id));
      ids.push_back(id);
    }
    return {};
  }

  memory::Status read_post_processor(const JsonCursor& root) {
    size_t count = 0;
    return for_each_component(
        root["post_processor"], "processors", count,
        [this](const JsonCursor& field, const std::string& type) -> memory::Status {
          if (type == "ByteLevel") {
            return {};  // changes offsets only
          }
          return type == "TemplateProcessing" ? add_template(field) : unknown_type(field, type);
        });
  }

  // add_NAME of tokenizer_config.json; nothing where it is not said.
  static memory::Status read_flag(const JsonCursor& field, std::optional<bool>& flag) {
    if (field.is_null()) {
      return {};
    }
    bool value = false;
    ENGRAM_RETURN_IF_ERROR(field.read_optional(value));
    flag = value;
    return {};
  }

  // "<s>" or {"content": "<s>"}; nothing for null or an unknown token, an error if it is needed.
  memory::Status read_token(
      const JsonCursor& field, bool needed, std::optional<int32_t>& id) const {
    const JsonCursor text = field.value().is_object() ? field["content"] : field;
    if (text.is_null() && !needed) {
      return {};
    }
    std::string content;
    ENGRAM_RETURN_IF_ERROR(text.read(content));
    const auto found = all_tokens.find(content);
    if (found != all_tokens.end()) {
      id = found->second;
    } else if (needed) {
      return text.expected("a token of tokenizer.json");
    }
    return {};
  }

  memory::Status read_config(const JsonCursor& config) {
    ENGRAM_RETURN_IF_ERROR(config.expect_object());
    std::optional<bool> add_bos;
    std::optional<bool> add_eos;
    ENGRAM_RETURN_IF_ERROR(read_flag(config["add_bos_token"], add_bos));
    ENGRAM_RETURN_IF_ERROR(read_flag(config["add_eos_token"], add_eos));
    std::optional<int32_t> bos;
    std::optional<int32_t> eos;
    ENGRAM_RETURN_IF_ERROR(read_token(config["bos_token"], add_bos.value_or(false), bos));
    ENGRAM_RETURN_IF_ERROR(read_token(config["eos_token"], false, eos));
    std::vector<int32_t>& prefix = spec.prefix;
    std::vector<int32_t>& suffix = spec.suffix;
    if (add_bos.has_value() && bos.has_value()) {
      const bool there = !prefix.empty() && prefix.front() == *bos;
      if (*add_bos && !there) {
        prefix.insert(prefix.begin(), *bos);
      } else if (!*add_bos && there) {
        prefix.erase(prefix.begin());
      }
    }
    if (add_eos.has_value() && eos.has_value()) {
      const bool there = !suffix.empty() && suffix.back() == *eos;
      if (*add_eos && !there) {
        suffix.push_back(*eos);
      } else if (!*add_eos && there) {
        suffix.pop_back();
      }
    }
    return {};
  }
};

}  // namespace

memory::Result<TokenizerSpec> parse_tokenizer_spec(
    const std::string& tokenizer_json, const std::string& config_json) {
  const memory::Result<nlohmann::json> document =
      memory::parse_json(tokenizer_json, "tokenizer.json");
  if (!document.ok()) {
    return document.status();
  }
  const JsonCursor root(document.value(), "tokenizer.json: ");
  TokenizerSpec spec;
  ENGRAM_RETURN_IF_ERROR(root.expect_object());
  ENGRAM_RETURN_IF_ERROR(read_normalizers(root, spec));
  ENGRAM_RETURN_IF_ERROR(read_pre_tokenizers(root, spec));
  ENGRAM_RETURN_IF_ERROR(check_decoder(root));
  ENGRAM_RETURN_IF_ERROR(read_bpe_spec(root["model"], spec.bpe));
  Vocabulary vocabulary;
  int32_t tokens = 0;
  for (const auto& [text, id] : spec.bpe.vocab) {
    vocabulary.emplace(text, id);
    tokens = std::max(tokens, id + 1);
  }
  ENGRAM_RETURN_IF_ERROR(read_added_tokens(root, vocabulary, spec.added_tokens));
  for (const AddedTokenSpec& token : spec.added_tokens) {
    vocabulary.emplace(token.content, token.id);
    tokens = std::max(tokens, token.id + 1);
  }
  AffixReader affixes{vocabulary, tokens, spec};
  ENGRAM_RETURN_IF_ERROR(affixes.read_post_processor(root));
  if (config_json.empty()) {
    return spec;
  }
  const memory::Result<nlohmann::json> config =
      memory::parse_json(config_json, "tokenizer_config.json");
  if (!config.ok()) {
    return config.status();
  }
  ENGRAM_RETURN_IF_ERROR(
      affixes.read_config(JsonCursor(config.value(), "tokenizer_config.json: ")));
  return spec;
}

}  // namespace engram::engine

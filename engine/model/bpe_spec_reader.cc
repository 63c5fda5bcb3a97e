#include "engine/model/bpe_spec_reader.h"

#include <string_view>
#include <unordered_map>

namespace engram::engine {
namespace {

constexpr size_t kMaxMerges = size_t{1} << 23;
constexpr size_t kMaxShown = 60;  // bytes of a token in a message

using Vocabulary = std::unordered_map<std::string_view, int32_t>;

memory::Status read_vocab(const JsonCursor& field, BpeSpec& bpe) {
  ENGRAM_RETURN_IF_ERROR(field.expect_object());
  if (field.size() == 0) {
    return field.expected("at least one token");
  }
  bpe.vocab.reserve(field.size());
  std::vector<bool> used;
  for (const auto& [text, value] : field.value().items()) {
    int32_t id = 0;
    const JsonCursor entry(value, field.where() + "[\"" + text.substr(0, kMaxShown) + "\"]");
    ENGRAM_RETURN_IF_ERROR(entry.read(0, kMaxTokenId, id));
    const size_t index = static_cast<size_t>(id);
    if (index >= used.size()) {
      used.resize(index + 1);
    }
    if (used[index]) {
      return entry.expected("an id that no other token has");
    }
    used[index] = true;
    bpe.vocab.emplace_back(text, id);
  }
  return {};
}

// "a b" or ["a", "b"]
memory::Status read_pair(const JsonCursor& field, std::string_view& left, std::string_view& right) {
  if (field.value().is_string()) {
    const std::string_view text = field.value().get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return field.expected("two tokens with a space between");
    }
    left = text.substr(0, space);
    right = text.substr(space + 1);
    return {};
  }
  if (!field.value().is_array() || field.size() != 2 || !field.value()[0].is_string() ||
      !field.value()[1].is_string()) {
    return field.expected("two tokens");
  }
  left = field.value()[0].get_ref<const std::string&>();
  right = field.value()[1].get_ref<const std::string&>();
  return {};
}

memory::Status read_merges(const JsonCursor& field, const Vocabulary& vocabulary, BpeSpec& bpe) {
  ENGRAM_RETURN_IF_ERROR(field.expect_array());
  if (field.size() > kMaxMerges) {
    return field.expected("at most " + std::to_string(kMaxMerges) + " merges");
  }
  bpe.merges.reserve(field.size());
  for (size_t i = 0; i < field.size(); ++i) {
    const JsonCursor entry = field.at(i);
    if (entry.value().is_string() &&
        entry.value().get_ref<const std::string&>().rfind("#version", 0) == 0) {
      continue;  // the first line of a merges.txt
    }
    std::string_view left;
    std::string_view right;
    ENGRAM_RETURN_IF_ERROR(read_pair(entry, left, right));
    BpeSpec::Merge merge{};
    const std::string merged = std::string(left) + std::string(right);
    for (const auto& [text, id] :
         {std::pair(left, &merge.left), std::pair(right, &merge.right),
          std::pair(std::string_view(merged), &merge.merged)}) {
      const auto found = vocabulary.find(text);
      if (found == vocabulary.end()) {
        return memory::invalid_argument(
            entry.where() + ": expected tokens of model.vocab, found \"" +
            std::string(text.substr(0, kMaxShown)) + "\"");
      }
      *id = found->second;
    }
    bpe.merges.push_back(merge);
  }
  return {};
}

// Options that must be off, because what they switch on is not there.
memory::Status check_options(const JsonCursor& model) {
  if (!model["type"].is_null()) {
    std::string type;
    ENGRAM_RETURN_IF_ERROR(model["type"].read(type));
    if (type != "BPE") {
      return model["type"].unsupported("model type " + type);
    }
  }
  const JsonCursor dropout = model["dropout"];
  if (!dropout.is_null() && !(dropout.value().is_number() && dropout.value() == 0.0)) {
    return dropout.unsupported("BPE with dropout");
  }
  bool byte_fallback = false;
  ENGRAM_RETURN_IF_ERROR(model["byte_fallback"].read_optional(byte_fallback));
  if (byte_fallback) {
    return model["byte_fallback"].unsupported("byte fallback");
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    std::string text;
    if (!model[name].is_null()) {
      ENGRAM_RETURN_IF_ERROR(model[name].read(text));
    }
    if (!text.empty()) {
      return model[name].unsupported("a text other than \"\"");
    }
  }
  return {};
}

}  // namespace

memory::Status read_bpe_spec(const JsonCursor& model, BpeSpec& bpe) {
  ENGRAM_RETURN_IF_ERROR(model.expect_object());
  ENGRAM_RETURN_IF_ERROR(check_options(model));
  ENGRAM_RETURN_IF_ERROR(read_vocab(model["vocab"], bpe));
  Vocabulary vocabulary;
  for (const auto& [text, id] : bpe.vocab) {
    vocabulary.emplace(text, id);
  }
  ENGRAM_RETURN_IF_ERROR(read_merges(model["merges"], vocabulary, bpe));
  ENGRAM_RETURN_IF_ERROR(model["fuse_unk"].read_optional(bpe.fuse_unk));
  ENGRAM_RETURN_IF_ERROR(model["ignore_merges"].read_optional(bpe.ignore_merges));
  if (model["unk_token"].is_null()) {
    return {};
  }
  std::string unk;
  ENGRAM_RETURN_IF_ERROR(model["unk_token"].read(unk));
  const auto found = vocabulary.find(unk);
  if (found != vocabulary.end()) {
    bpe.unk = found->second;
  } else if (!unk.empty()) {
    return model["unk_token"].expected("a token of model.vocab");
  }
  return {};
}

}  // namespace engram::engine

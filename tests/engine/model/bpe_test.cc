#include "engine/model/bpe.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace engram::engine {
namespace {

// Merges by the definition: the lowest rank, the leftmost of equal ones, again and again.
std::vector<int32_t> merged(const BpeSpec& spec, const std::string& word) {
  std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> merges;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    merges[{spec.merges[i].left, spec.merges[i].right}] = {i, spec.merges[i].merged};
  }
  std::vector<int32_t> symbols;
  for (const char c : word) {
    symbols.push_back(c - 'a');
  }
  while (true) {
    size_t best = symbols.size();
    size_t best_rank = spec.merges.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = merges.find({symbols[i], symbols[i + 1]});
      if (found != merges.end() && found->second.first < best_rank) {
        best = i;
        best_rank = found->second.first;
      }
    }
    if (best == symbols.size()) {
      return symbols;
    }
    symbols[best] = merges[{symbols[best], symbols[best + 1]}].second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

// Letters a..d and random merges of tokens that are there; different pairs may make one token.
BpeSpec random_spec(std::mt19937& random) {
  BpeSpec spec;
  std::map<std::string, int32_t> ids;
  for (int32_t i = 0; i < 4; ++i) {
    spec.vocab.emplace_back(std::string(1, static_cast<char>('a' + i)), i);
    ids[spec.vocab.back().first] = i;
  }
  for (int i = 0; i < 40; ++i) {
    const auto [left, left_id] = spec.vocab[random() % spec.vocab.size()];
    const auto [right, right_id] = spec.vocab[random() % spec.vocab.size()];
    const std::string both = left + right;
    const auto [entry, inserted] = ids.emplace(both, static_cast<int32_t>(spec.vocab.size()));
    if (inserted) {
      spec.vocab.emplace_back(both, entry->second);
    }
    spec.merges.push_back({left_id, right_id, entry->second});
  }
  std::shuffle(spec.merges.begin(), spec.merges.end(), random);
  return spec;
}

TEST_CASE("words of every length are merged by rank", "[bpe]") {
  const uint32_t seed = 23;
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 40; ++round) {
    const BpeSpec spec = random_spec(random);
    const Bpe bpe(spec);
    for (const size_t length : {1, 2, 3, 5, 20, 47, 48, 49, 50, 200, 700}) {
      std::string word(length, 'a');
      const uint32_t letters = 1 + static_cast<uint32_t>(random() % 4);
      for (char& c : word) {
        c = static_cast<char>('a' + random() % letters);
      }
      std::vector<int32_t> ids = {-7};
      bpe.encode(word, ids);
      std::vector<int32_t> expected = merged(spec, word);
      expected.insert(expected.begin(), -7);
      CAPTURE(round, word);
      CHECK(ids == expected);
    }
  }
}

TEST_CASE("bytes without a token", "[bpe]") {
  BpeSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}, {"ab", 2}, {"?", 3}};
  spec.merges = {{0, 1, 2}};
  const auto encode = [&spec](const std::string& word) {
    std::vector<int32_t> ids;
    Bpe(spec).encode(word, ids);
    return ids;
  };
  CHECK(encode("axyb") == std::vector<int32_t>{2});  // as `tokenizers`: gone, and neighbours meet
  spec.unk = 3;
  CHECK(encode("axyb") == std::vector<int32_t>{0, 3, 3, 1});
  spec.fuse_unk = true;
  CHECK(encode("axyb") == std::vector<int32_t>{0, 3, 1});
}

TEST_CASE("whole words come first where merges are ignored", "[bpe]") {
  BpeSpec spec;
  spec.vocab = {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 4}};
  spec.merges = {{0, 1, 3}};
  std::vector<int32_t> ids;
  Bpe(spec).encode("abc", ids);
  CHECK(ids == std::vector<int32_t>{3, 2});
  spec.ignore_merges = true;
  ids.clear();
  Bpe(spec).encode("abc", ids);
  CHECK(ids == std::vector<int32_t>{4});
}

}  // namespace
}  // namespace engram::engine

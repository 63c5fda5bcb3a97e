#include "engine/model/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <queue>

#include "engine/model/byte_alphabet.h"

namespace engram::engine {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kEmpty = std::numeric_limits<uint64_t>::max();
constexpr size_t kShortWord = 48;  // symbols; above, the queue is quicker than scanning

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t slot_of(uint64_t pair, size_t slots) {
  const uint64_t mixed = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(mixed >> 32) & (slots - 1);
}

struct Candidate {
  uint32_t rank;
  uint32_t position;
  int32_t merged;

  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

struct Symbol {
  int32_t id;  // -1: merged into the one before
  uint32_t previous;
  uint32_t next;
};

}  // namespace

Bpe::Bpe(const BpeSpec& spec)
    : merges_(std::bit_ceil(2 * spec.merges.size() + 2), Slot{kEmpty, {kNoRank, -1}}),
      unk_(spec.unk.value_or(-1)),
      fuse_unk_(spec.fuse_unk) {
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    const BpeSpec::Merge& merge = spec.merges[i];
    insert_merge(merge.left, merge.right, {static_cast<uint32_t>(i), merge.merged});
  }
  of_byte_.fill(-1);
  std::vector<std::pair<std::string, int32_t>> words;
  for (const auto& [text, id] : spec.vocab) {
    const std::optional<std::string> bytes = bytes_of_vocabulary_string(text);
    if (bytes.has_value() && bytes->size() == 1) {
      of_byte_[static_cast<uint8_t>((*bytes)[0])] = id;
    }
    if (bytes.has_value() && !bytes->empty()) {
      words.emplace_back(*bytes, id);
    }
  }
  std::vector<int32_t> symbols;
  for (auto& [bytes, id] : words) {
    symbols.clear();
    if (!spec.ignore_merges) {
      append_symbols(bytes, symbols);
      merge(symbols);
    }
    if (spec.ignore_merges || (symbols.size() == 1 && symbols[0] == id)) {
      whole_.emplace(std::move(bytes), id);
    }
  }
}

// Of two equal pairs the later one counts.
void Bpe::insert_merge(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  size_t slot = slot_of(pair, merges_.size());
  while (merges_[slot].pair != kEmpty && merges_[slot].pair != pair) {
    slot = (slot + 1) & (merges_.size() - 1);
  }
  merges_[slot] = {pair, merge};
}

Bpe::Merge Bpe::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  size_t slot = slot_of(pair, merges_.size());
  while (merges_[slot].pair != kEmpty) {
    if (merges_[slot].pair == pair) {
      return merges_[slot].merge;
    }
    slot = (slot + 1) & (merges_.size() - 1);
  }
  return {kNoRank, -1};
}

void Bpe::append_symbols(std::string_view word, std::vector<int32_t>& symbols) const {
  bool after_unknown = false;
  for (const char byte : word) {
    const int32_t id = of_byte_[static_cast<uint8_t>(byte)];
    const bool unknown = id < 0;
    if (!unknown) {
      symbols.push_back(id);
    } else if (unk_ >= 0 && !(fuse_unk_ && after_unknown)) {
      symbols.push_back(unk_);
    }
    after_unknown = unknown;
  }
}

void Bpe::merge_short(std::vector<int32_t>& symbols) const {
  std::array<Merge, kShortWord> merges;
  size_t pairs = symbols.size() - 1;
  for (size_t i = 0; i < pairs; ++i) {
    merges[i] = find_merge(symbols[i], symbols[i + 1]);
  }
  while (pairs > 0) {
    size_t best = 0;
    for (size_t i = 1; i < pairs; ++i) {
      best = merges[i].rank < merges[best].rank ? i : best;
    }
    if (merges[best].rank == kNoRank) {
      break;
    }
    symbols[best] = merges[best].merged;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    std::copy(merges.begin() + best + 1, merges.begin() + pairs, merges.begin() + best);
    --pairs;
    if (best < pairs) {
      merges[best] = find_merge(symbols[best], symbols[best + 1]);
    }
    if (best > 0) {
      merges[best - 1] = find_merge(symbols[best - 1], symbols[best]);
    }
  }
}

void Bpe::merge_long(std::vector<int32_t>& symbols) const {
  const uint32_t count = static_cast<uint32_t>(symbols.size());
  std::vector<Symbol> list(count);
  std::vector<Candidate> candidates;
  for (uint32_t i = 0; i < count; ++i) {
    list[i] = {symbols[i], i - 1, i + 1};  // the first one's previous is above count
    const Merge merge = i + 1 < count ? find_merge(symbols[i], symbols[i + 1]) : Merge{kNoRank, -1};
    if (merge.rank != kNoRank) {
      candidates.push_back({merge.rank, i, merge.merged});
    }
  }
  std::priority_queue queue(std::greater<Candidate>(), std::move(candidates));
  const auto offer = [&](uint32_t left, uint32_t right) {
    const Merge merge = find_merge(list[left].id, list[right].id);
    if (merge.rank != kNoRank) {
      queue.push({merge.rank, left, merge.merged});
    }
  };
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = list[best.position];
    if (left.id < 0 || left.next >= count ||
        find_merge(left.id, list[left.next].id).merged != best.merged) {
      continue;  // one of the two has been merged since
    }
    Symbol& right = list[left.next];
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next < count) {
      list[left.next].previous = best.position;
      offer(best.position, left.next);
    }
    if (left.previous < count) {
      offer(left.previous, best.position);
    }
  }
  symbols.clear();
  for (uint32_t i = 0; i < count; i = list[i].next) {
    symbols.push_back(list[i].id);
  }
}

void Bpe::merge(std::vector<int32_t>& symbols) const {
  if (symbols.size() <= 1) {
    return;
  }
  if (symbols.size() <= kShortWord) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  const auto whole = whole_.find(word);
  if (whole != whole_.end()) {
    ids.push_back(whole->second);
    return;
  }
  std::vector<int32_t> symbols;
  append_symbols(word, symbols);
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

}  // namespace engram::engine

#include "memory/kv/page_pool.h"

#include <algorithm>
#include <functional>

#include "memory/base/status.h"

namespace engram::memory {
namespace {

__extension__ using Uint128 = unsigned __int128;

uint64_t fold(uint64_t a, uint64_t b) {
  const Uint128 product = Uint128{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Two independent multiply-and-fold chains. Only speed rests on their quality: content is compared.
Hash128 hash_page(Hash128 parent, const std::string& salt, std::span<const int32_t> tokens) {
  constexpr uint64_t kOdd[4] = {
      0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u, 0xd6e8feb86659fd93u};
  const uint64_t salted = std::hash<std::string>{}(salt);
  uint64_t low = fold(parent.low ^ kOdd[0], salted ^ kOdd[1]);
  uint64_t high = fold(parent.high ^ kOdd[2], salted ^ kOdd[3]);
  for (const int32_t token : tokens) {
    const uint64_t word = static_cast<uint32_t>(token);
    low = fold(low ^ word ^ kOdd[1], kOdd[0]);
    high = fold(high + word + kOdd[3], kOdd[2]);
  }
  return {low, high};
}

}  // namespace

PagePool::PagePool(int64_t pages, int page_tokens)
    : page_tokens_(page_tokens),
      hash_(hash_page),
      nodes_(static_cast<size_t>(pages)),
      tokens_(static_cast<size_t>(pages * page_tokens)) {
  ENGRAM_CHECK(pages > 0);
  ENGRAM_CHECK(page_tokens > 0);
  unused_.reserve(nodes_.size());
  for (int64_t page = pages; page-- > 0;) unused_.push_back(static_cast<int32_t>(page));
}

std::span<const int32_t> PagePool::tokens_of(int32_t page) const {
  const size_t size = static_cast<size_t>(page_tokens_);
  return std::span<const int32_t>(tokens_).subspan(static_cast<size_t>(page) * size, size);
}

bool PagePool::same_content(
    int32_t page, int32_t parent, const std::string& salt, std::span<const int32_t> tokens) const {
  const Node& n = node(page);
  if (n.parent != parent) return false;
  if (parent < 0 && n.salt != salt) return false;
  return std::ranges::equal(tokens_of(page), tokens);
}

void PagePool::unlink_idle(int32_t page) {
  Node& n = node(page);
  (n.older < 0 ? oldest_idle_ : node(n.older).newer) = n.newer;
  (n.newer < 0 ? newest_idle_ : node(n.newer).older) = n.older;
  n.older = n.newer = -1;
  --idle_count_;
}

void PagePool::hold(int32_t page) {
  Node& n = node(page);
  if (n.holders == 0) unlink_idle(page);
  ++n.holders;
}

void PagePool::let_go(int32_t page) {
  Node& n = node(page);
  ENGRAM_CHECK(n.holders > 0);
  if (--n.holders > 0) return;
  if (!n.published) {
    unused_.push_back(page);
    return;
  }
  n.older = newest_idle_;
  n.newer = -1;
  (newest_idle_ < 0 ? oldest_idle_ : node(newest_idle_).newer) = page;
  newest_idle_ = page;
  ++idle_count_;
}

// A sequence lets go of its last page first, and who holds a page holds its parents: so a page
// becomes idle before its parents do and the oldest idle page never has children.
int32_t PagePool::take_unused() {
  if (!unused_.empty()) {
    const int32_t page = unused_.back();
    unused_.pop_back();
    return page;
  }
  const int32_t page = oldest_idle_;
  ENGRAM_CHECK(page >= 0);
  Node& n = node(page);
  ENGRAM_CHECK(n.children == 0);
  unlink_idle(page);
  index_.erase(n.hash);
  if (n.parent >= 0) --node(n.parent).children;
  n = Node{};
  return page;
}

bool PagePool::allocate(PageList& list, int64_t count) {
  if (count > free_pages()) return false;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t page = take_unused();
    node(page).holders = 1;
    list.pages.push_back(page);
  }
  return true;
}

std::vector<int32_t> PagePool::find_prefix(
    std::span<const int32_t> tokens, const std::string& salt) const {
  std::vector<int32_t> pages;
  const size_t size = static_cast<size_t>(page_tokens_);
  const size_t whole_pages = tokens.empty() ? 0 : (tokens.size() - 1) / size;
  Hash128 hash;
  for (size_t i = 0; i < whole_pages; ++i) {
    const std::span<const int32_t> content = tokens.subspan(i * size, size);
    hash = hash_(hash, i == 0 ? salt : std::string(), content);
    const auto found = index_.find(hash);
    const int32_t parent = pages.empty() ? -1 : pages.back();
    if (found == index_.end() || !same_content(found->second, parent, salt, content)) break;
    pages.push_back(found->second);
  }
  return pages;
}

int64_t PagePool::match_prefix(std::span<const int32_t> tokens, const std::string& salt) const {
  return static_cast<int64_t>(find_prefix(tokens, salt).size()) * page_tokens_;
}

int64_t PagePool::acquire_prefix(
    PageList& list, std::span<const int32_t> tokens, const std::string& salt) {
  ENGRAM_CHECK(list.pages.empty());
  list.pages = find_prefix(tokens, salt);
  for (const int32_t page : list.pages) hold(page);
  list.published = static_cast<int64_t>(list.pages.size());
  return list.published * page_tokens_;
}

void PagePool::publish(PageList& list, std::span<const int32_t> tokens, const std::string& salt) {
  const size_t size = static_cast<size_t>(page_tokens_);
  const size_t full = tokens.size() / size;
  ENGRAM_CHECK(full <= list.pages.size());
  for (size_t i = static_cast<size_t>(list.published); i < full; ++i) {
    const int32_t parent = i == 0 ? -1 : list.pages[i - 1];
    const int32_t mine = list.pages[i];
    const std::span<const int32_t> content = tokens.subspan(i * size, size);
    const Hash128 hash =
        hash_(i == 0 ? Hash128{} : node(parent).hash, i == 0 ? salt : std::string(), content);
    const auto [found, is_new] = index_.try_emplace(hash, mine);
    if (!is_new) {
      // Another content under the same hash: this sequence's pages stay private from here on.
      if (!same_content(found->second, parent, salt, content)) return;
      hold(found->second);
      list.pages[i] = found->second;
      let_go(mine);
    } else {
      Node& n = node(mine);
      ENGRAM_CHECK(n.holders == 1);
      n.published = true;
      n.hash = hash;
      n.parent = parent;
      if (parent >= 0) {
        ++node(parent).children;
      } else {
        n.salt = salt;
      }
      std::ranges::copy(content, tokens_.begin() + mine * page_tokens_);
    }
    list.published = static_cast<int64_t>(i) + 1;
  }
}

void PagePool::release(PageList& list) {
  while (!list.pages.empty()) {
    let_go(list.pages.back());
    list.pages.pop_back();
  }
  list.published = 0;
}

}  // namespace engram::memory

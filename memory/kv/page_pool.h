// Which page of the cache belongs to whom: bookkeeping only, no bytes and no device.
//
// A page holds what every layer keeps for page_tokens consecutive positions of one sequence: keys,
// values and convolution inputs. Full pages may be published in the prefix index and are then
// shared by content: a page is found through a chained 128-bit hash, and taken only if its parent
// page and its tokens are really the same, so that a collision can never share. Published pages
// that nobody holds stay until they are needed, the least recently used first.
//
// One thread (the scheduler's). The same calls in the same order give the same pages.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace engram::memory {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Hash128&) const = default;
};

// The pages of one sequence, in the order of its positions. Filled and emptied by PagePool only.
struct PageList {
  std::vector<int32_t> pages;
  int64_t published = 0;  // leading pages that are in the index
};

class PagePool {
 public:
  PagePool(int64_t pages, int page_tokens);

  int64_t pages() const { return static_cast<int64_t>(nodes_.size()); }
  int page_tokens() const { return page_tokens_; }
  // Pages an allocate() can have: never used, or published and held by nobody.
  int64_t free_pages() const { return static_cast<int64_t>(unused_.size()) + idle_count_; }
  int64_t pages_for(int64_t tokens) const { return (tokens + page_tokens_ - 1) / page_tokens_; }

  // Appends `count` pages to the list, or none and false when there are not so many.
  bool allocate(PageList& list, int64_t count);

  // Takes the published pages that hold the longest prefix of `tokens` and appends them to the
  // empty list; returns the tokens they hold. At least the last token is always left to compute.
  // Sequences with different salts share nothing.
  int64_t acquire_prefix(PageList& list, std::span<const int32_t> tokens, const std::string& salt);

  // What acquire_prefix() would return, without taking anything.
  int64_t match_prefix(std::span<const int32_t> tokens, const std::string& salt) const;

  // Publishes the full pages among the first `computed` tokens. A page whose content is published
  // already is given back and replaced in the list by the published one.
  //   tokens  [computed] from position 0
  void publish(PageList& list, std::span<const int32_t> tokens, const std::string& salt);

  // Gives all pages back; the list is empty afterwards.
  void release(PageList& list);

  int32_t holders(int32_t page) const { return node(page).holders; }
  bool published(int32_t page) const { return node(page).published; }

  // The hash that finds a page: of its parent's hash (the salt's for the first page) and tokens.
  // Tests put a weaker one here to prove that collisions are harmless.
  using HashFunction =
      Hash128 (*)(Hash128 parent, const std::string& salt, std::span<const int32_t>);
  void use_hash_for_test(HashFunction hash) { hash_ = hash; }

 private:
  struct Node {
    int32_t holders = 0;
    int32_t children = 0;  // published pages whose parent this is
    int32_t parent = -1;   // of a published page; -1: first page
    int32_t older = -1;    // neighbours among the idle pages
    int32_t newer = -1;
    bool published = false;
    Hash128 hash;
    std::string salt;  // of a published first page
  };
  struct HashOfHash {
    size_t operator()(const Hash128& h) const { return static_cast<size_t>(h.low); }
  };

  Node& node(int32_t page) { return nodes_[static_cast<size_t>(page)]; }
  const Node& node(int32_t page) const { return nodes_[static_cast<size_t>(page)]; }
  std::span<const int32_t> tokens_of(int32_t page) const;
  bool same_content(
      int32_t page, int32_t parent, const std::string& salt, std::span<const int32_t> tokens) const;
  // The published pages of the longest prefix, in order.
  std::vector<int32_t> find_prefix(std::span<const int32_t> tokens, const std::string& salt) const;
  void hold(int32_t page);
  void let_go(int32_t page);
  int32_t take_unused();
  void unlink_idle(int32_t page);

  int page_tokens_;
  HashFunction hash_;
  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;  // [pages, page_tokens] of published pages
  std::vector<int32_t> unused_;  // a stack
  std::unordered_map<Hash128, int32_t, HashOfHash> index_;
  int32_t oldest_idle_ = -1;
  int32_t newest_idle_ = -1;
  int64_t idle_count_ = 0;
};

}  // namespace engram::memory

// The page bookkeeping against a shadow of plain containers: thousands of seeded steps, then the
// cases that matter by hand.
#include "memory/kv/page_pool.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace engram::memory {
namespace {

constexpr int kPageTokens = 4;

struct Holder {
  std::vector<int32_t> tokens;
  std::string salt;
  PageList list;
};

std::vector<int32_t> counted(int count, int32_t first) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i);
  return tokens;
}

// A holder whose whole prompt is computed and published.
Holder computed(PagePool& pool, std::vector<int32_t> tokens, const std::string& salt) {
  Holder h{std::move(tokens), salt, {}};
  pool.acquire_prefix(h.list, h.tokens, salt);
  const int64_t missing = pool.pages_for(static_cast<int64_t>(h.tokens.size())) -
                          static_cast<int64_t>(h.list.pages.size());
  REQUIRE(pool.allocate(h.list, missing));
  pool.publish(h.list, h.tokens, salt);
  return h;
}

Hash128 weak_hash(Hash128 parent, const std::string&, std::span<const int32_t> tokens) {
  return {(parent.low + static_cast<uint64_t>(tokens[0])) % 3, 0};
}

// Content that a page must hold: everything from position 0 to its end, and the salt.
using Content = std::pair<std::string, std::vector<int32_t>>;

void check_pool(
    const PagePool& pool, const std::vector<Holder>& holders, std::map<int32_t, Content>& content) {
  std::map<int32_t, int32_t> held;
  for (const Holder& h : holders) {
    std::set<int32_t> own;
    for (size_t i = 0; i < h.list.pages.size(); ++i) {
      const int32_t page = h.list.pages[i];
      ++held[page];
      REQUIRE(own.insert(page).second);
      if (static_cast<int64_t>(i) >= h.list.published) continue;
      REQUIRE(pool.published(page));
      const size_t end = (i + 1) * kPageTokens;
      const Content now{h.salt, {h.tokens.begin(), h.tokens.begin() + static_cast<int64_t>(end)}};
      const auto [at, is_new] = content.try_emplace(page, now);
      REQUIRE(at->second == now);
    }
  }
  int64_t in_use = 0;
  for (int32_t page = 0; page < pool.pages(); ++page) {
    REQUIRE(pool.holders(page) == held[page]);
    in_use += held[page] > 0;
    if (held[page] > 1) REQUIRE(pool.published(page));
    // A page that left the index may hold anything next time.
    if (!pool.published(page)) content.erase(page);
  }
  REQUIRE(pool.free_pages() == pool.pages() - in_use);
}

void random_steps(uint64_t seed, bool weak) {
  CAPTURE(seed, weak);
  std::mt19937_64 random(seed);
  PagePool pool(24, kPageTokens);
  if (weak) pool.use_hash_for_test(weak_hash);
  std::vector<Holder> holders;
  int64_t hits = 0;
  for (int step = 0; step < 4000; ++step) {
    const uint64_t what = random() % 4;
    if (what < 2) {
      Holder h;
      h.salt = random() % 4 == 0 ? "other" : "";
      const size_t size = 1 + random() % 30;
      // Few distinct ids, so that prefixes meet often.
      for (size_t i = 0; i < size; ++i) h.tokens.push_back(static_cast<int32_t>(random() % 8 == 0));
      const int64_t before = pool.free_pages();
      const int64_t found = pool.acquire_prefix(h.list, h.tokens, h.salt);
      REQUIRE(found < static_cast<int64_t>(size));
      REQUIRE(found == static_cast<int64_t>(h.list.pages.size()) * kPageTokens);
      hits += found;
      const int64_t missing =
          pool.pages_for(static_cast<int64_t>(size)) - static_cast<int64_t>(h.list.pages.size());
      if (pool.allocate(h.list, missing)) {
        holders.push_back(std::move(h));
      } else {
        pool.release(h.list);
        REQUIRE(pool.free_pages() == before);
      }
    } else if (!holders.empty()) {
      const size_t at = random() % holders.size();
      Holder& h = holders[at];
      if (what == 2) {
        const size_t done = random() % (h.tokens.size() + 1);
        pool.publish(h.list, std::span(h.tokens).first(done), h.salt);
      } else {
        pool.release(h.list);
        holders.erase(holders.begin() + static_cast<int64_t>(at));
      }
    }
    // The content map is rebuilt from live holders; idle published pages keep their entry only as
    // long as a holder proves it, which is enough to catch a page that changes under its holder.
    std::map<int32_t, Content> content;
    check_pool(pool, holders, content);
  }
  REQUIRE(hits > 0);
  for (Holder& h : holders) pool.release(h.list);
  REQUIRE(pool.free_pages() == pool.pages());
}

}  // namespace

TEST_CASE("page pool: thousands of random steps keep every page accounted for", "[kv]") {
  for (const uint64_t seed : {1u, 2u, 3u}) {
    random_steps(seed, false);
    random_steps(seed, true);
  }
}

TEST_CASE("page pool: a prefix is found whole pages at a time, the last token never", "[kv]") {
  PagePool pool(16, kPageTokens);
  Holder a = computed(pool, counted(12, 100), "");
  for (const auto& [size, expected] : std::map<int, int64_t>{
           {1, 0}, {4, 0}, {5, 4}, {8, 4}, {9, 8}, {12, 8}, {13, 12}, {20, 12}}) {
    CAPTURE(size);
    PageList list;
    const std::vector<int32_t> tokens = counted(size, 100);
    CHECK(pool.acquire_prefix(list, tokens, "") == expected);
    pool.release(list);
  }
  PageList list;
  CHECK(pool.acquire_prefix(list, counted(12, 101), "") == 0);
  CHECK(pool.acquire_prefix(list, counted(12, 100), "salt") == 0);
  // A page is its whole prefix, not its own tokens.
  std::vector<int32_t> other = counted(12, 100);
  other[0] = 7;
  CHECK(pool.acquire_prefix(list, other, "") == 0);
  pool.release(a.list);
  CHECK(pool.free_pages() == 16);
}

TEST_CASE("page pool: the same content is kept once", "[kv]") {
  PagePool pool(16, kPageTokens);
  Holder a{counted(9, 0), "", {}};
  Holder b = a;
  REQUIRE(pool.allocate(a.list, 3));
  REQUIRE(pool.allocate(b.list, 3));
  CHECK(pool.free_pages() == 10);
  pool.publish(a.list, a.tokens, "");
  pool.publish(b.list, b.tokens, "");
  CHECK(pool.free_pages() == 12);
  CHECK(a.list.pages[0] == b.list.pages[0]);
  CHECK(a.list.pages[1] == b.list.pages[1]);
  CHECK(a.list.pages[2] != b.list.pages[2]);
  pool.release(a.list);
  pool.release(b.list);
  CHECK(pool.free_pages() == 16);
}

TEST_CASE("page pool: the least recently used page goes first, leaves before parents", "[kv]") {
  PagePool pool(6, kPageTokens);
  Holder a = computed(pool, counted(12, 0), "");
  Holder b = computed(pool, counted(12, 100), "");
  pool.release(a.list);
  pool.release(b.list);
  // Use a's first page again: what remains of a is then newer than b, but for its later pages.
  PageList touch;
  REQUIRE(pool.acquire_prefix(touch, counted(5, 0), "") == 4);
  pool.release(touch);
  PageList taken;
  REQUIRE(pool.allocate(taken, 5));
  PageList rest;
  CHECK(pool.acquire_prefix(rest, counted(12, 0), "") == 4);
  CHECK(pool.acquire_prefix(touch, counted(12, 100), "") == 0);
  pool.release(rest);
  CHECK_FALSE(pool.allocate(taken, 2));
  CHECK(taken.pages.size() == 5);
  pool.release(taken);
  CHECK(pool.free_pages() == 6);
}

TEST_CASE("page pool: colliding hashes never share", "[kv]") {
  PagePool pool(16, kPageTokens);
  pool.use_hash_for_test(
      [](Hash128, const std::string&, std::span<const int32_t>) { return Hash128{}; });
  Holder a = computed(pool, counted(8, 0), "");
  Holder b = computed(pool, counted(8, 50), "");
  CHECK(a.list.published == 1);
  CHECK(b.list.published == 0);
  PageList list;
  CHECK(pool.acquire_prefix(list, counted(8, 50), "") == 0);
  CHECK(pool.acquire_prefix(list, counted(8, 0), "other") == 0);
  CHECK(pool.acquire_prefix(list, counted(8, 0), "") == 4);
  pool.release(list);
}

}  // namespace engram::memory

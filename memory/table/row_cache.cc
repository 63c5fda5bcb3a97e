#include "memory/table/row_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "memory/device/host_memory.h"

namespace engram::memory {
namespace {

constexpr uint64_t kFound = uint64_t{1} << 63;

constexpr int64_t kMostSets = (int64_t{1} << 32) - 1;  // set_of() makes 32-bit numbers

// splitmix64's finisher: neighbouring rows go to sets far apart.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

double RowCache::bytes_per_row(int64_t row_bytes) {
  return static_cast<double>(row_bytes) + static_cast<double>(sizeof(Set) + 1) / kWays;
}

Result<RowCache> RowCache::make(
    const std::string& what, int64_t row_bytes, int64_t budget, int64_t spare) {
  ENGRAM_CHECK(row_bytes > 0);
  ENGRAM_CHECK(budget >= 0);
  ENGRAM_CHECK(spare >= 0);
  RowCache cache;
  cache.row_bytes_ = row_bytes;
  cache.spare_ = spare;
  const int64_t set_bytes = kWays * row_bytes + static_cast<int64_t>(sizeof(Set)) + 1;
  cache.sets_ = std::min(budget / set_bytes, kMostSets);
  Result<Buffer> keys =
      allocate_host(what + ", keys", cache.sets_ * static_cast<int64_t>(sizeof(Set)));
  if (!keys.ok()) return keys.status();
  Result<Buffer> hands = allocate_host(what + ", clock hands", cache.sets_);
  if (!hands.ok()) return hands.status();
  Result<Buffer> rows = allocate_host(what, cache.slots() * row_bytes);
  if (!rows.ok()) return rows.status();
  cache.keys_ = std::move(keys).value();
  cache.hands_ = std::move(hands).value();
  cache.rows_ = std::move(rows).value();
  return cache;
}

int64_t RowCache::memory_bytes() const {
  return keys_.bytes() + hands_.bytes() + rows_.bytes();
}

int64_t RowCache::set_of(int64_t row) const {
  // The high half of a product maps a hash to any number of sets without a division.
  const uint64_t hash = mix(static_cast<uint64_t>(row)) >> 32;
  return static_cast<int64_t>((hash * static_cast<uint64_t>(sets_)) >> 32);
}

int64_t RowCache::find(int64_t row) {
  if (sets_ == 0) return -1;
  const int64_t set = set_of(row);
  std::array<uint64_t, kWays>& keys = keys_.as<Set>()[set].keys;
  const uint64_t key = static_cast<uint64_t>(row) + 1;
  for (int way = 0; way < kWays; ++way) {
    uint64_t& there = keys[static_cast<size_t>(way)];
    if ((there & ~kFound) != key) continue;
    there |= kFound;
    ++stats_.hits;
    return set * kWays + way;
  }
  ++stats_.misses;
  return -1;
}

// An empty way, or the first one from the hand on that was not found since the hand was there last.
int RowCache::victim(int64_t set) {
  std::array<uint64_t, kWays>& keys = keys_.as<Set>()[set].keys;
  uint8_t& hand = hands_.as<uint8_t>()[set];
  while (true) {
    const int way = hand;
    hand = static_cast<uint8_t>((hand + 1) % kWays);
    uint64_t& key = keys[static_cast<size_t>(way)];
    if ((key & kFound) == 0) return way;
    key &= ~kFound;
  }
}

void RowCache::insert(int64_t row, int64_t from) {
  ENGRAM_CHECK(row >= 0);
  ENGRAM_CHECK(from >= capacity());
  ENGRAM_CHECK(from < slots());
  if (sets_ == 0) return;
  const int64_t set = set_of(row);
  std::array<uint64_t, kWays>& keys = keys_.as<Set>()[set].keys;
  const uint64_t key = static_cast<uint64_t>(row) + 1;
  const bool there = std::any_of(
      keys.begin(), keys.end(), [key](uint64_t other) { return (other & ~kFound) == key; });
  if (there) return;
  const int way = victim(set);
  uint64_t& place = keys[static_cast<size_t>(way)];
  if (place != 0) ++stats_.evicted;
  place = key;
  ++stats_.inserted;
  std::memcpy(
      data() + (set * kWays + way) * row_bytes_, data() + from * row_bytes_,
      static_cast<size_t>(row_bytes_));
}

}  // namespace engram::memory

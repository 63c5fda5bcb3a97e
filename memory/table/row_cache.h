// Rows of one table kept in DRAM in front of slow storage: the bytes of a row by its id. Rows never
// change, so nothing is ever stale. All memory is taken by make(); nothing allocates later.
//
// Sets of 8 ways with CLOCK replacement: a row that was found since the hand passed it gets another
// turn, a row that was only inserted does not, so that a long prompt's once-read rows push out each
// other before they push out rows in use. The keys of a set fill one cache line.
//
// Keyed by the row and not by the n-gram: the rows of an n-gram's heads are found or missed
// together all the same, and one kind of key serves every geometry.
//
// Slots of the cache and `spare` slots more, which belong to the caller, lie in one array: rows
// found here and rows just read there can be decoded by one call.
//
// One thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::memory {

struct RowCacheStats {
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t inserted = 0;
  int64_t evicted = 0;
};

class RowCache {
 public:
  static constexpr int kWays = 8;

  // What a cached row of row_bytes takes, its key and its share of the clock hand included.
  static double bytes_per_row(int64_t row_bytes);

  // As many rows as `budget` bytes hold, in whole sets; 0 is a cache that never finds anything.
  // `what` names it in errors. RESOURCE_EXHAUSTED when the memory cannot be had.
  static Result<RowCache> make(
      const std::string& what, int64_t row_bytes, int64_t budget, int64_t spare);

  int64_t capacity() const { return sets_ * kWays; }  // rows
  int64_t row_bytes() const { return row_bytes_; }
  int64_t memory_bytes() const;  // taken, spare slots included

  // [capacity() + spare, row_bytes]; the spare slots come last.
  uint8_t* data() const { return rows_.as<uint8_t>(); }
  int64_t slots() const { return capacity() + spare_; }

  // The slot of the row, or -1. Valid until the next insert().
  int64_t find(int64_t row);

  // Copies the row's bytes from the spare slot `from` and evicts another row if the set is full. A
  // row that is there already stays as it is.
  void insert(int64_t row, int64_t from);

  RowCacheStats stats() const { return stats_; }

 private:
  // The row plus one, 0 for an empty way; the highest bit: found since the hand passed.
  struct alignas(64) Set {
    std::array<uint64_t, kWays> keys;
  };
  static_assert(sizeof(Set) == 64, "the keys of a set are one cache line");

  RowCache() = default;
  int64_t set_of(int64_t row) const;
  int victim(int64_t set);

  // Constant.
  int64_t row_bytes_ = 0;
  int64_t sets_ = 0;
  int64_t spare_ = 0;

  // The one thread.
  Buffer keys_;   // [sets] Set
  Buffer hands_;  // [sets] uint8_t, the way looked at next
  Buffer rows_;   // [slots, row_bytes]
  RowCacheStats stats_;
};

}  // namespace engram::memory

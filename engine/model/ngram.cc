#include "engine/model/ngram.h"

#include <algorithm>
#include <array>

namespace engram::engine {
namespace {

using memory::Boundary;
using memory::Mix;
using memory::TableGeometry;

__extension__ using Uint128 = unsigned __int128;

// A block of positions at a time, so that one division per column serves them all.
constexpr int64_t kBlock = 64;
constexpr int64_t kBack = memory::kMaxNgramOrder - 1;
using Numbers = std::array<uint64_t, kBlock>;

// The ids of a block and of what lies before it.
struct Window {
  std::array<int32_t, kBack + kBlock> ids;  // ids[kBack + i] is the block's position i
  std::array<int32_t, kBlock> reach;        // how many ids count, from the position itself back
  int64_t count = 0;
  int32_t fill = 0;
  bool blocked = false;  // some position reaches less far than the highest order
};

// How far each position may look back, within what the highest order can see.
void find_boundaries(const TableGeometry& g, Window* w) {
  const bool dead_latch = g.boundary == Boundary::kDeadLatch;
  const int32_t most = g.max_order();
  const int32_t end_of_text = static_cast<int32_t>(g.boundary_id);
  int32_t run = most;  // ids without a boundary, up to the position before
  for (int64_t i = -(most - 1); i < w->count; ++i) {
    const int32_t id = w->ids[static_cast<size_t>(kBack + i)];
    int32_t reach = 0;
    if (dead_latch) {
      run = id < 0 ? 0 : std::min(run + 1, most);
      reach = run;
    } else {
      reach = std::min(run + 1, most);
      run = id == end_of_text ? 0 : reach;
    }
    if (i < 0) continue;
    w->reach[static_cast<size_t>(i)] = reach;
    w->blocked = w->blocked || reach < most;
  }
}

Window read_window(
    const TableGeometry& g, std::span<const int32_t> ids, int64_t begin, int64_t count) {
  Window w;
  w.count = count;
  w.fill = static_cast<int32_t>(g.fill_id);
  for (int64_t i = -(g.max_order() - 1); i < count; ++i) {
    const int64_t at = begin + i;
    w.ids[static_cast<size_t>(kBack + i)] = at < 0 ? w.fill : ids[static_cast<size_t>(at)];
  }
  if (g.boundary != Boundary::kNone) find_boundaries(g, &w);
  return w;
}

// Calls f(i, id) with the id that the block's position i sees `back` positions before it.
template <typename F>
void for_each_id(const Window& w, int64_t back, F&& f) {
  const int32_t* ids = w.ids.data() + kBack - back;
  if (!w.blocked) {
    for (int64_t i = 0; i < w.count; ++i) f(i, static_cast<uint64_t>(int64_t{ids[i]}));
    return;
  }
  for (int64_t i = 0; i < w.count; ++i) {
    const int32_t id = back < w.reach[static_cast<size_t>(i)] ? ids[i] : w.fill;
    f(i, static_cast<uint64_t>(int64_t{id}));
  }
}

// Remainders by one modulus. The reciprocal is floor((2^64 - 1) / modulus), so that the quotient
// is at most one short.
struct Divisor {
  uint64_t modulus;
  uint64_t reciprocal;

  explicit Divisor(int64_t m)
      : modulus(static_cast<uint64_t>(m)), reciprocal(~uint64_t{0} / modulus) {}

  uint64_t remainder(uint64_t x) const {
    const uint64_t quotient = static_cast<uint64_t>((Uint128{x} * reciprocal) >> 64);
    const uint64_t rest = x - quotient * modulus;
    return std::min(rest, rest - modulus);  // the smaller one: a difference below zero wraps
  }
  // Of x as a signed number, not negative.
  uint64_t floor_remainder(uint64_t x) const {
    const uint64_t rest = remainder(x);
    if ((x >> 63) == 0) return rest;
    const uint64_t wrapped = (remainder(~uint64_t{0}) + 1) % modulus;  // 2^64
    return rest >= wrapped ? rest - wrapped : rest + modulus - wrapped;
  }
};

// Column c of the block. `high`: some number has its sign bit, which no valid id brings about.
void put_column(
    const TableGeometry& g,
    size_t c,
    const Divisor& divisor,
    const Numbers& numbers,
    int64_t count,
    bool high,
    int64_t* rows) {
  const size_t columns = g.moduli.size();
  const int64_t offset = g.offsets[c];
  int64_t* to = rows + c;
  if (high) {
    for (int64_t i = 0; i < count; ++i, to += columns) {
      *to = offset + static_cast<int64_t>(divisor.floor_remainder(numbers[i]));
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i, to += columns) {
    *to = offset + static_cast<int64_t>(divisor.remainder(numbers[i]));
  }
}

// The number of order n extends that of order n - 1 by one product.
void hash_products(const TableGeometry& g, const Window& w, int64_t* rows) {
  Numbers mixes;
  std::fill_n(mixes.begin(), w.count, 0);
  size_t c = 0;
  int64_t back = 0;
  for (const int order : g.orders) {
    uint64_t signs = 0;
    for (; back < order; ++back) {
      const uint64_t multiplier = static_cast<uint64_t>(g.multipliers[static_cast<size_t>(back)]);
      for_each_id(w, back, [&](int64_t i, uint64_t id) {
        mixes[static_cast<size_t>(i)] ^= id * multiplier;
      });
    }
    for (int64_t i = 0; i < w.count; ++i) signs |= mixes[static_cast<size_t>(i)];
    for (int head = 0; head < g.heads; ++head, ++c) {
      put_column(g, c, Divisor(g.moduli[c]), mixes, w.count, (signs >> 63) != 0, rows);
    }
  }
}

// Every column has its own powers of the base.
void hash_polynomials(const TableGeometry& g, const Window& w, int64_t* rows) {
  Numbers sums;
  size_t c = 0;
  for (const int order : g.orders) {
    for (int head = 0; head < g.heads; ++head, ++c) {
      const Divisor divisor(g.moduli[c]);
      const uint64_t base = divisor.remainder(static_cast<uint64_t>(g.base));
      uint64_t power = 1;
      for_each_id(w, 0, [&](int64_t i, uint64_t id) { sums[static_cast<size_t>(i)] = id; });
      for (int64_t back = 1; back < order; ++back) {
        power = divisor.remainder(power * base);
        for_each_id(
            w, back, [&](int64_t i, uint64_t id) { sums[static_cast<size_t>(i)] += id * power; });
      }
      put_column(g, c, divisor, sums, w.count, true, rows);
    }
  }
}

}  // namespace

void hash_rows(
    const TableGeometry& geometry,
    std::span<const int32_t> ids,
    int64_t begin,
    int64_t end,
    int64_t* rows) {
  ENGRAM_CHECK(begin >= 0);
  ENGRAM_CHECK(end <= static_cast<int64_t>(ids.size()));
  ENGRAM_CHECK(geometry.max_order() >= 1);
  ENGRAM_CHECK(geometry.max_order() <= memory::kMaxNgramOrder);
  ENGRAM_CHECK(geometry.moduli.size() == geometry.orders.size() * geometry.heads);
  for (; begin < end; begin += kBlock, rows += kBlock * geometry.columns()) {
    const Window window = read_window(geometry, ids, begin, std::min(kBlock, end - begin));
    if (geometry.mix == Mix::kXorMultiply) {
      hash_products(geometry, window, rows);
    } else {
      hash_polynomials(geometry, window, rows);
    }
  }
}

}  // namespace engram::engine

// The row of a column, from the window of a token.
#pragma once

#include <cuda_runtime.h>

#include "memory/device/values.cuh"
#include "memory/table/row_hash.h"

namespace engram::memory::cuda {

// x mod the column's modulus, of x as a signed number, not negative.
__device__ inline uint64_t floor_remainder(const HashColumn& c, uint64_t x) {
  const uint64_t quotient = __umul64hi(x, c.reciprocal);  // at most one short
  uint64_t rest = x - quotient * c.modulus;
  if (rest >= c.modulus) rest -= c.modulus;
  if ((x >> 63) == 0) return rest;
  return rest >= c.wrapped ? rest - c.wrapped : rest + c.modulus - c.wrapped;
}

// REQUIRES: the window is aligned to 16 bytes.
__device__ inline int64_t hashed_row(const RowHash& h, const int32_t* window, int64_t column) {
  constexpr int kPack = 4;
  Pack<int32_t, kPack> ids[kWindow / kPack];  // all on their way at once
#pragma unroll
  for (int i = 0; i < kWindow / kPack; ++i) {
    ids[i] = load_pack<int32_t, kPack>(window + i * kPack);
  }
  const HashColumn c = h.columns[column];
  const uint64_t* factors = h.factors + c.factors;
  const bool latch = h.boundary == Boundary::kDeadLatch;
  const bool ends = h.boundary == Boundary::kEndOfText;
  uint64_t number = 0;
  bool counts = true;  // nothing between here and the newest id ended the look-back
#pragma unroll
  for (int back = 0; back < kWindow; ++back) {
    if (back >= c.order) break;
    const int at = kWindow - 1 - back;
    const int32_t id = ids[at / kPack].v[at % kPack];
    counts = counts && id != kNoToken && !(latch && id < 0);
    // An end of text counts where it is the newest id itself.
    counts = counts && !(ends && back > 0 && id == h.boundary_id);
    const int64_t seen = counts ? id : h.fill;
    const uint64_t product = static_cast<uint64_t>(seen) * factors[back];
    number = h.mix == Mix::kXorMultiply ? number ^ product : number + product;
  }
  return c.offset + static_cast<int64_t>(floor_remainder(c, number));
}

}  // namespace engram::memory::cuda

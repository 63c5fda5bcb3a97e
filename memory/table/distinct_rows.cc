#include "memory/table/distinct_rows.h"

#include <utility>

namespace engram::memory {

Result<DistinctRows> DistinctRows::make(Device& device, int64_t most_rows) {
  constexpr int64_t kMostRows = int64_t{1} << 30;
  ENGRAM_CHECK(most_rows < kMostRows);
  DistinctRows made;
  made.most_rows_ = most_rows;
  constexpr int64_t kBytes =
      kSeatsPerRow * (sizeof(unsigned long long) + sizeof(RowSpot)) +  // NOLINT
      sizeof(ListedRow) + 2 * sizeof(int32_t);
  Result<Buffer> memory = device.allocate(
      "seats for n-gram rows", most_rows * kBytes + static_cast<int64_t>(sizeof(int32_t)));
  if (!memory.ok()) return memory.status();
  made.memory_ = std::move(memory).value();
  return made;
}

DistinctRows::Arrays DistinctRows::arrays() const {
  Arrays a{};
  a.seats = memory_.as<unsigned long long>();  // NOLINT: as above
  a.spots = reinterpret_cast<RowSpot*>(a.seats + kSeatsPerRow * most_rows_);
  a.listed = reinterpret_cast<ListedRow*>(a.spots + kSeatsPerRow * most_rows_);
  a.seat_of = reinterpret_cast<int32_t*>(a.listed + most_rows_);
  a.slot_of = a.seat_of + most_rows_;
  a.count = a.slot_of + most_rows_;
  return a;
}

}  // namespace engram::memory

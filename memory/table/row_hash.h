// Row ids computed by the device, for tokens that the host has not seen yet: what hash_rows() of
// the engine gives, bit for bit. Constants and windows lie where a kernel reads them, at addresses
// that stay, so that recorded work finds them there every step.
//
// A window is the last ids of one sequence, kWindow of them, the newest last: what the token map
// gave, as hash_rows() takes them, and kNoToken for places before the sequence's begin. All tables
// of a model read the same windows.
#pragma once

#include <cstdint>
#include <limits>

#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/table/geometry.h"

namespace engram::memory {

inline constexpr int kWindow = kMaxNgramOrder;
inline constexpr int32_t kNoToken = std::numeric_limits<int32_t>::min();

// One column's part of the hash.
struct HashColumn {
  uint64_t modulus = 0;
  uint64_t reciprocal = 0;  // floor((2^64 - 1) / modulus)
  uint64_t wrapped = 0;     // 2^64 mod modulus
  int64_t offset = 0;
  int32_t order = 0;
  int32_t factors = 0;  // where in RowHash::factors the column's begin, by look-back distance
};

// What a kernel needs to hash for one table.
struct RowHash {
  const HashColumn* columns = nullptr;  // [H]
  const uint64_t* factors = nullptr;    // multipliers, or powers of the base for each column
  int32_t fill = 0;
  int32_t boundary_id = 0;
  Mix mix = Mix::kXorMultiply;
  Boundary boundary = Boundary::kNone;
};

// The constants of one table in memory of a device.
class DeviceRowHash {
 public:
  // RESOURCE_EXHAUSTED when there is no memory for them. Synchronous. REQUIRES: check_geometry()
  // holds.
  static Result<DeviceRowHash> make(Device& device, Stream& stream, const TableGeometry& geometry);
  const RowHash& hash() const { return hash_; }

 private:
  Buffer columns_;
  Buffer factors_;
  RowHash hash_;
};

}  // namespace engram::memory

#include "memory/table/row_hash.h"

#include <string>
#include <utility>
#include <vector>

namespace engram::memory {
namespace {

std::vector<HashColumn> columns_of(const TableGeometry& g) {
  std::vector<HashColumn> columns;
  for (size_t c = 0; c < g.moduli.size(); ++c) {
    const uint64_t modulus = static_cast<uint64_t>(g.moduli[c]);
    HashColumn& column = columns.emplace_back();
    column.modulus = modulus;
    column.reciprocal = ~uint64_t{0} / modulus;
    column.wrapped = (~uint64_t{0} % modulus + 1) % modulus;
    column.offset = g.offsets[c];
    column.order = g.orders[c / static_cast<size_t>(g.heads)];
    if (g.mix == Mix::kPolynomial) column.factors = static_cast<int32_t>(c) * g.max_order();
  }
  return columns;
}

// Products of two remainders wrap in 64 bits, as hash_rows() lets them.
std::vector<uint64_t> factors_of(const TableGeometry& g) {
  std::vector<uint64_t> factors;
  if (g.mix == Mix::kXorMultiply) {
    for (const int64_t multiplier : g.multipliers) {
      factors.push_back(static_cast<uint64_t>(multiplier));
    }
    return factors;
  }
  for (const int64_t m : g.moduli) {
    const uint64_t modulus = static_cast<uint64_t>(m);
    const uint64_t base = static_cast<uint64_t>(g.base) % modulus;
    uint64_t power = 1;
    for (int back = 0; back < g.max_order(); ++back) {
      factors.push_back(power);
      power = power * base % modulus;
    }
  }
  return factors;
}

template <typename T>
Result<Buffer> upload(
    Device& device, Stream& stream, const std::string& what, const std::vector<T>& values) {
  const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
  Result<Buffer> buffer = device.allocate(what, bytes);
  if (!buffer.ok()) return buffer.status();
  device.copy(stream, buffer.value().data(), values.data(), bytes);
  stream.synchronize();
  return buffer;
}

}  // namespace

Result<DeviceRowHash> DeviceRowHash::make(
    Device& device, Stream& stream, const TableGeometry& geometry) {
  const std::string what = "hash of layer " + std::to_string(geometry.layer);
  Result<Buffer> columns = upload(device, stream, what, columns_of(geometry));
  if (!columns.ok()) return columns.status();
  Result<Buffer> factors = upload(device, stream, what, factors_of(geometry));
  if (!factors.ok()) return factors.status();
  DeviceRowHash made;
  made.columns_ = std::move(columns).value();
  made.factors_ = std::move(factors).value();
  made.hash_ = {
      .columns = made.columns_.as<HashColumn>(),
      .factors = made.factors_.as<uint64_t>(),
      .fill = static_cast<int32_t>(geometry.fill_id),
      .boundary_id = static_cast<int32_t>(geometry.boundary_id),
      .mix = geometry.mix,
      .boundary = geometry.boundary};
  return made;
}

}  // namespace engram::memory

#include "memory/device/device_cuda.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <vector>

#include "tests/support/gpu_or_note.h"

namespace engram::memory {
namespace {

TEST_CASE("bytes survive the way through device memory, ordered by an event", "[cuda]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  std::vector<int> sent(1 << 20);
  std::iota(sent.begin(), sent.end(), 7);
  std::vector<int> received(sent.size());
  const int64_t bytes = static_cast<int64_t>(sent.size() * sizeof(int));
  Result<Buffer> buffer = device->allocate("round trip", bytes);
  REQUIRE(buffer.ok());
  const std::unique_ptr<Stream> up = device->make_stream("up");
  const std::unique_ptr<Stream> down = device->make_stream("down");
  const std::unique_ptr<Event> arrived = device->make_event();
  device->copy(*up, buffer.value().data(), sent.data(), bytes);
  up->record(*arrived);
  down->wait(*arrived, nullptr);
  device->copy(*down, received.data(), buffer.value().data(), bytes);
  down->synchronize();
  CHECK(arrived->done());
  CHECK(std::memcmp(sent.data(), received.data(), static_cast<size_t>(bytes)) == 0);
}

TEST_CASE("more memory than the GPU has is an error with both numbers", "[cuda]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  const Result<Buffer> buffer = device->allocate("too much", int64_t{1} << 50);
  REQUIRE_FALSE(buffer.ok());
  CHECK(buffer.status().code() == Code::kResourceExhausted);
  CHECK(buffer.status().message().find("too much: 1125899906842624 bytes") == 0);
}

}  // namespace
}  // namespace engram::memory

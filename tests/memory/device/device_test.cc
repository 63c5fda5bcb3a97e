// What every Device promises about host work, pinned memory and row copies.
#include "memory/device/device.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "memory/device/device_cuda.h"
#include "tests/support/gpu_or_note.h"

namespace engram::memory {
namespace {

std::unique_ptr<Device> device_under_test() {
#ifdef TEST_DEVICE_CUDA
  return tests::gpu_or_note();
#else
  return make_cpu_device(2);
#endif
}

std::vector<uint16_t> numbers(size_t count, uint16_t first) {
  std::vector<uint16_t> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST_CASE("host work runs in the order of its stream, between copies", "[device]") {
  const std::unique_ptr<Device> device = device_under_test();
  if (device == nullptr) return;
  Buffer pinned = device->allocate_pinned("pinned", 64).value();
  Buffer buffer = device->allocate("buffer", 64).value();
  const std::unique_ptr<Stream> stream = device->make_stream("work");
  const std::unique_ptr<Event> done = device->make_event();
  std::vector<int> seen;
  int received = 0;
  for (int i = 0; i < 20; ++i) {
    // The copy takes what the work before it wrote, and not what the next round's writes.
    stream->enqueue_host([&, i] {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      *pinned.as<int>() = 100 + i;
    });
    device->copy(*stream, buffer.data(), pinned.data(), 4);
    device->copy(*stream, &received, buffer.data(), 4);
    stream->enqueue_host([&] { seen.push_back(received); });
  }
  stream->record(*done);
  done->synchronize();
  CHECK(done->done());
  REQUIRE(seen.size() == 20);
  for (int i = 0; i < 20; ++i) CHECK(seen[static_cast<size_t>(i)] == 100 + i);
}

TEST_CASE("another stream waits for host work through an event", "[device]") {
  const std::unique_ptr<Device> device = device_under_test();
  if (device == nullptr) return;
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Stream> compute = device->make_stream("compute");
  const std::unique_ptr<Event> ready = device->make_event();
  std::atomic<int> order{0};
  int side_at = -1;
  int compute_at = -1;
  side->enqueue_host([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    side_at = order++;
  });
  side->record(*ready);
  compute->wait(*ready, nullptr);
  compute->enqueue_host([&] { compute_at = order++; });
  compute->synchronize();
  CHECK(side_at == 0);
  CHECK(compute_at == 1);
}

TEST_CASE("copy_rows copies the rows that are named and no others", "[device]") {
  const std::unique_ptr<Device> device = device_under_test();
  if (device == nullptr) return;
  const std::unique_ptr<Stream> stream = device->make_stream("rows");
  constexpr int64_t kRows = 37;
  for (const int64_t cols : {1, 3, 8, 24, 1000, 1024}) {
    for (const std::vector<int32_t>& rows :
         {std::vector<int32_t>{}, {36}, {5, 0, 17, 36, 2}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 30}}) {
      CAPTURE(cols, rows);
      const size_t count = static_cast<size_t>(kRows * cols);
      const std::vector<uint16_t> before = numbers(count, 1);
      const std::vector<uint16_t> source = numbers(count, 30000);
      const int64_t bytes = static_cast<int64_t>(2 * count);
      Buffer to = device->allocate("to", bytes).value();
      Buffer from = device->allocate_pinned("from", bytes).value();
      Buffer list = device->allocate_pinned("rows", 64).value();
      std::copy(source.begin(), source.end(), from.as<uint16_t>());
      std::copy(rows.begin(), rows.end(), list.as<int32_t>());
      device->copy(*stream, to.data(), before.data(), bytes);
      device->copy_rows(
          *stream, make_view(to.data(), DType::kBf16, kRows, cols),
          make_view(from.data(), DType::kBf16, kRows, cols), list.as<int32_t>(), std::ssize(rows));
      std::vector<uint16_t> got(count);
      device->copy(*stream, got.data(), to.data(), bytes);
      stream->synchronize();
      std::vector<uint16_t> expected = before;
      for (const int32_t row : rows) {
        const int64_t at = row * cols;
        std::copy_n(source.begin() + at, cols, expected.begin() + at);
      }
      CHECK(got == expected);
    }
  }
}

TEST_CASE("host pages of the device are reached by host and device, or refused", "[device]") {
  const std::unique_ptr<Device> device = device_under_test();
  if (device == nullptr) return;
  constexpr int64_t kPage = int64_t{2} << 20;
  device->seal();  // tables are swapped while serving
  Result<Buffer> pages = device->allocate_host_pages(3 * kPage + 5, device->numa_node());
  if (!pages.ok()) {
    CHECK(pages.status().code() == Code::kFailedPrecondition);
    CHECK_FALSE(pages.status().message().empty());
    return;
  }
  const Buffer& buffer = pages.value();
  CHECK(buffer.bytes() == 4 * kPage);
  CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % kPage == 0);
  CHECK(device->reads_host(buffer.as<char>() + 3 * kPage));
  const std::vector<uint16_t> sent = numbers(static_cast<size_t>(2 * kPage), 3);
  std::memcpy(buffer.data(), sent.data(), static_cast<size_t>(buffer.bytes()));
  std::vector<uint16_t> received(sent.size());
  const std::unique_ptr<Stream> stream = device->make_stream("copies");
  device->copy(*stream, received.data(), buffer.data(), buffer.bytes());
  stream->synchronize();
  CHECK(received == sent);
}

TEST_CASE("pinned memory begins zeroed and says when there is too little", "[device]") {
  const std::unique_ptr<Device> device = device_under_test();
  if (device == nullptr) return;
  const Buffer buffer = device->allocate_pinned("zeroes", 4099).value();
  for (int64_t i = 0; i < 4099; ++i) REQUIRE(buffer.as<uint8_t>()[i] == 0);
  CHECK(device->reads_host(buffer.data()));
  CHECK(device->reads_host(buffer.as<char>() + 4098));
  const Result<Buffer> much = device->allocate_pinned("the whole", int64_t{1} << 52);
  REQUIRE_FALSE(much.ok());
  CHECK(much.status().code() == Code::kResourceExhausted);
  CHECK(much.status().message().find("the whole") == 0);
  CHECK(device->available_bytes() > 0);
}

}  // namespace engram::memory

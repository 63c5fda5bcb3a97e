#include "memory/device/device_cpu.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

namespace engram::memory {
namespace {

TEST_CASE("a stream runs its work in order, on its own", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  const std::unique_ptr<Stream> stream = device->make_stream("main");
  std::vector<int> order;  // plain memory: only the stream's worker touches it until synchronize
  for (int i = 0; i < 5000; ++i) {
    as_cpu(*stream).enqueue([&order, i] { order.push_back(i); });
  }
  stream->synchronize();
  REQUIRE(order.size() == 5000);
  for (int i = 0; i < 5000; ++i) REQUIRE(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("a span is as long as the work in it, not as the work around it", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  const std::unique_ptr<Stream> stream = device->make_stream("spans");
  using Clock = std::chrono::steady_clock;
  std::atomic<int64_t> span_ns{0};
  std::atomic<int64_t> inner_ns{0};
  Clock::duration inside{0};
  Clock::time_point begin;
  for (int i = 0; i < 3; ++i) {
    stream->enqueue_host([] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
    stream->enqueue_host([&] { begin = Clock::now(); });
    stream->begin_span(&span_ns);
    stream->begin_span(&inner_ns);
    stream->enqueue_host([] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); });
    stream->end_span(&inner_ns);
    stream->end_span(&span_ns);
    stream->enqueue_host([&] { inside += Clock::now() - begin; });
  }
  stream->synchronize();
  CHECK(inner_ns >= 6'000'000);
  CHECK(span_ns >= inner_ns);
  CHECK(span_ns <= std::chrono::nanoseconds(inside).count());
}

TEST_CASE("a stream finishes its work before it goes", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  std::atomic<int> runs{0};
  {
    const std::unique_ptr<Stream> stream = device->make_stream("short");
    for (int i = 0; i < 100; ++i) as_cpu(*stream).enqueue([&runs] { ++runs; });
  }
  CHECK(runs == 100);
}

TEST_CASE("a wait holds the stream until the event's last record so far", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Stream> main = device->make_stream("main");
  const std::unique_ptr<Event> ready = device->make_event();
  std::atomic<bool> gate{false};
  int value = 0;  // plain: only the event orders the two streams
  int seen = -1;

  as_cpu(*side).enqueue([&] {
    while (!gate) std::this_thread::yield();
    value = 7;
  });
  side->record(*ready);
  main->wait(*ready, nullptr);
  as_cpu(*main).enqueue([&] { seen = value; });
  CHECK_FALSE(ready->done());
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  gate = true;
  main->synchronize();
  CHECK(seen == 7);
  CHECK(ready->done());
}

TEST_CASE("the time a stream stood still is added up", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Stream> main = device->make_stream("main");
  const std::unique_ptr<Event> ready = device->make_event();
  std::atomic<int64_t> waited_ns{0};
  // On a busy machine `main` may reach its wait only after the gate opened: so more than one try.
  for (int tries = 0; tries < 200 && waited_ns == 0; ++tries) {
    std::atomic<bool> gate{false};
    as_cpu(*side).enqueue([&] {
      while (!gate) std::this_thread::yield();
    });
    side->record(*ready);
    main->wait(*ready, &waited_ns);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    gate = true;
    main->synchronize();
  }
  CHECK(waited_ns > 0);
}

TEST_CASE("a record after the wait does not hold it", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Stream> main = device->make_stream("main");
  const std::unique_ptr<Event> event = device->make_event();
  std::atomic<bool> gate{false};
  std::atomic<int64_t> waited_ns{0};

  event->synchronize();  // never recorded: returns
  CHECK(event->done());
  main->wait(*event, &waited_ns);  // never recorded: no wait
  as_cpu(*side).enqueue([&] {
    while (!gate) std::this_thread::yield();
  });
  side->record(*event);
  main->synchronize();  // would hang if the later record counted
  CHECK(waited_ns == 0);
  CHECK_FALSE(event->done());
  gate = true;
  event->synchronize();
  CHECK(event->done());
}

TEST_CASE("an event may go before its streams have passed it", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Stream> main = device->make_stream("main");
  std::atomic<int> passed{0};
  for (int i = 0; i < 200; ++i) {
    const std::unique_ptr<Event> event = device->make_event();
    side->record(*event);
    main->wait(*event, nullptr);
    as_cpu(*main).enqueue([&passed] { ++passed; });
  }
  main->synchronize();
  CHECK(passed == 200);
}

// Two streams hand one cell back and forth; without the waits this loses increments and is a race.
TEST_CASE("events order two streams both ways", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  const std::unique_ptr<Stream> a = device->make_stream("a");
  const std::unique_ptr<Stream> b = device->make_stream("b");
  const std::unique_ptr<Event> a_done = device->make_event();
  const std::unique_ptr<Event> b_done = device->make_event();
  int64_t cell = 0;
  for (int round = 0; round < 2000; ++round) {
    a->wait(*b_done, nullptr);
    as_cpu(*a).enqueue([&cell] { cell = cell * 3 + 1; });
    a->record(*a_done);
    b->wait(*a_done, nullptr);
    as_cpu(*b).enqueue([&cell] { cell %= 1000003; });
    b->record(*b_done);
  }
  b_done->synchronize();
  int64_t expected = 0;
  for (int round = 0; round < 2000; ++round) expected = (expected * 3 + 1) % 1000003;
  CHECK(cell == expected);
}

TEST_CASE("copies are queue items and exact", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  const std::unique_ptr<Stream> stream = device->make_stream("copy");
  constexpr uint32_t kSeed = 11;
  CAPTURE(kSeed);
  std::mt19937 random(kSeed);
  for (const int64_t bytes : {0, 1, 63, 4096, 5 << 20}) {
    CAPTURE(bytes);
    Result<Buffer> from = device->allocate("from", bytes);
    Result<Buffer> to = device->allocate("to", bytes);
    REQUIRE(from.ok());
    REQUIRE(to.ok());
    for (int64_t i = 0; i < bytes; ++i) {
      from.value().as<uint8_t>()[i] = static_cast<uint8_t>(random());
    }
    device->copy(*stream, to.value().data(), from.value().data(), bytes);
    stream->synchronize();
    if (bytes > 0) {
      CHECK(std::memcmp(to.value().data(), from.value().data(), static_cast<size_t>(bytes)) == 0);
    }
  }
}

TEST_CASE("a device counts and names what it allocates", "[device]") {
  const std::unique_ptr<Device> device = make_cpu_device(2);
  CHECK(device->name().starts_with("cpu (2 threads, "));
  CHECK(as_cpu(*device).workers().threads() == 2);
  Result<Buffer> small = device->allocate("small", 100);
  REQUIRE(small.ok());
  CHECK(device->allocated_bytes() == 100);

  const int64_t absurd = int64_t{1} << 50;
  const Result<Buffer> failed = device->allocate("kv cache", absurd);
  REQUIRE_FALSE(failed.ok());
  CHECK(failed.status().code() == Code::kResourceExhausted);
  CHECK_THAT(failed.status().message(), Catch::Contains("kv cache"));
  CHECK_THAT(failed.status().message(), Catch::Contains(std::to_string(absurd)));
  CHECK_THAT(failed.status().message(), Catch::Contains("available"));
  CHECK(device->allocated_bytes() == 100);
}

TEST_CASE("without a number a device takes the usable cores", "[device]") {
  CHECK(usable_cores() >= 1);
  const std::unique_ptr<Device> device = make_cpu_device(0);
  CHECK(as_cpu(*device).workers().threads() == usable_cores());
}

}  // namespace
}  // namespace engram::memory

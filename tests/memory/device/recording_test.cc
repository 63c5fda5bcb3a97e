// Recorded work of a stream: replayed with what memory holds then, after what it waits for.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "memory/device/device.h"
#include "memory/device/device_cuda.h"
#include "tests/support/gpu_or_note.h"

namespace engram::memory {
namespace {

// A stream that is recorded, and a number on its way from ends[0] through device memory to ends[1].
struct Rig {
  explicit Rig(Device& of) : device(of) {}

  void copy_in(Stream& on) { device.copy(on, buffer.data(), &ends[0], 4); }
  void copy_out(Stream& on) { device.copy(on, &ends[1], buffer.data(), 4); }
  std::unique_ptr<Recording> record(const std::function<void()>& work) {
    return device.record(*stream, work).value();
  }
  void check_replay(Recording& recording, int number) {
    ends[0] = number;
    recording.replay(*stream);
    stream->synchronize();
    CHECK(ends[1] == number);
  }

  Device& device;
  std::unique_ptr<Stream> stream = device.make_stream("work");
  Buffer host = device.allocate_pinned("host", 8).value();
  Buffer buffer = device.allocate("buffer", 4).value();
  int* const ends = host.as<int>();
};

}  // namespace

TEST_CASE("the CPU records nothing", "[recording]") {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  const std::unique_ptr<Stream> stream = device->make_stream("work");
  CHECK_FALSE(device->records());
  CHECK(device->record(*stream, [] {}).status().code() == Code::kUnimplemented);
}

TEST_CASE("recorded work runs with every replay and not before", "[recording]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  const std::unique_ptr<Recording> recording = rig.record([&] {
    rig.copy_in(*rig.stream);
    rig.copy_out(*rig.stream);
  });
  CHECK(recording->pieces() == 2);
  rig.stream->synchronize();
  CHECK(rig.ends[1] == 0);
  for (const int number : {5, 7}) rig.check_replay(*recording, number);
}

TEST_CASE("a replay waits for the last record of an event from outside", "[recording]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Event> ready = device->make_event();
  const std::unique_ptr<Recording> recording = rig.record([&] {
    rig.stream->wait(*ready, nullptr);
    rig.copy_out(*rig.stream);
  });
  recording->replay(*rig.stream);  // the event was never recorded: nothing to wait for
  rig.stream->synchronize();
  for (int number = 1; number < 4; ++number) {
    side->enqueue_host([&, number] {
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      rig.ends[0] = number;
    });
    rig.copy_in(*side);
    side->record(*ready);
    recording->replay(*rig.stream);
    rig.stream->synchronize();
    CHECK(rig.ends[1] == number);
  }
}

TEST_CASE("a recording may take in another stream", "[recording]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  Rig rig(*device);
  const std::unique_ptr<Stream> side = device->make_stream("side");
  const std::unique_ptr<Event> fork = device->make_event();
  const std::unique_ptr<Event> join = device->make_event();
  const std::unique_ptr<Recording> recording = rig.record([&] {
    rig.stream->record(*fork);
    side->wait(*fork, nullptr);
    rig.copy_in(*side);
    side->record(*join);
    rig.stream->wait(*join, nullptr);
    rig.copy_out(*rig.stream);
  });
  for (const int number : {3, 4}) rig.check_replay(*recording, number);
  // Both streams are as they were.
  rig.ends[0] = 9;
  device->copy(*side, &rig.ends[1], &rig.ends[0], 4);
  side->synchronize();
  CHECK(rig.ends[1] == 9);
}

TEST_CASE("rows that lie apart are copied, and nothing between them", "[recording]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  const std::unique_ptr<Stream> stream = device->make_stream("work");
  Buffer from = device->allocate_pinned("from", 4 * 6).value();
  Buffer to = device->allocate_pinned("to", 4 * 20).value();
  std::iota(from.as<int>(), from.as<int>() + 6, 1);
  Buffer on_device = device->allocate("on the device", 4 * 20).value();
  device->copy_strided(*stream, on_device.data(), 4 * 7, from.data(), 4 * 2, 4 * 2, 3);
  device->copy(*stream, to.data(), on_device.data(), to.bytes());
  stream->synchronize();
  const std::vector<int> expected = {1, 2, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 5, 6, 0, 0, 0, 0};
  CHECK(std::vector<int>(to.as<int>(), to.as<int>() + 20) == expected);
}

}  // namespace engram::memory

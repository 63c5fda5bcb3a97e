// The time a GPU's stream stands still for an event, which only the GPU can tell.
#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <thread>

#include "memory/device/device.h"
#include "memory/device/device_cuda.h"
#include "tests/support/gpu_or_note.h"

namespace engram::memory {
namespace {

// Something that a stream waits for and that another one only gets to when the test lets it.
struct Rig {
  explicit Rig(Device& of) : device(of) {}

  void check_timed(const std::function<void()>& wait) {
    const int64_t before = waited;
    // `main` may reach its wait only after the gate opened: so more than one try.
    for (int tries = 0; tries < 200 && waited == before; ++tries) {
      std::atomic<bool> gate{false};
      side->enqueue_host([&] {
        while (!gate) std::this_thread::yield();
      });
      side->record(*ready);
      wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
      gate = true;
      main->synchronize();
    }
    CHECK(waited > before);
  }

  Device& device;
  std::unique_ptr<Stream> side = device.make_stream("side");
  std::unique_ptr<Stream> main = device.make_stream("main");
  std::unique_ptr<Event> ready = device.make_event();
  Buffer counter = device.allocate_pinned("counter", 8).value();
  std::atomic<int64_t>& waited = *new (counter.data()) std::atomic<int64_t>(0);
};

}  // namespace

TEST_CASE("a GPU tells how long a stream stood still", "[device]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note(true);
  if (device == nullptr) return;
  CHECK(device->times_waits());
  Rig rig(*device);
  rig.check_timed([&] { rig.main->wait(*rig.ready, &rig.waited); });
  rig.side->record(*rig.ready);
  const std::unique_ptr<Recording> recording =
      device->record(*rig.main, [&] { rig.main->wait(*rig.ready, &rig.waited); }).value();
  CHECK(recording->pieces() == 3);
  rig.check_timed([&] { recording->replay(*rig.main); });
  rig.check_timed([&] { recording->replay(*rig.main); });
}

TEST_CASE("a GPU tells how long a stream took for what lies in a span", "[device]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note(true);
  if (device == nullptr) return;
  Rig rig(*device);
  const Buffer other = device->allocate_pinned("other counter", 8).value();
  std::atomic<int64_t>& inner = *new (other.data()) std::atomic<int64_t>(0);
  constexpr int64_t kMs = 1'000'000;
  const auto nap = [&] {
    rig.main->enqueue_host([] { std::this_thread::sleep_for(std::chrono::milliseconds(3)); });
  };
  for (int i = 1; i <= 2; ++i) {
    rig.main->begin_span(&rig.waited);
    nap();
    rig.main->begin_span(&inner);
    nap();
    rig.main->end_span(&inner);
    rig.main->end_span(&rig.waited);
    rig.main->synchronize();
    CHECK(inner >= i * 3 * kMs - kMs / 10);  // as finely as the GPU counts
    CHECK(rig.waited >= i * 6 * kMs - kMs / 10);
    CHECK(rig.waited > inner);
  }
}

TEST_CASE("a GPU that is not asked leaves waits as they are", "[device]") {
  const std::unique_ptr<Device> device = tests::gpu_or_note();
  if (device == nullptr) return;
  CHECK_FALSE(device->times_waits());
  Rig rig(*device);
  rig.side->record(*rig.ready);
  const std::unique_ptr<Recording> recording =
      device->record(*rig.main, [&] { rig.main->wait(*rig.ready, &rig.waited); }).value();
  CHECK(recording->pieces() == 1);
  recording->replay(*rig.main);
  rig.main->wait(*rig.ready, &rig.waited);
  rig.main->begin_span(&rig.waited);
  rig.main->end_span(&rig.waited);
  rig.main->synchronize();
  CHECK(rig.waited == 0);
}

}  // namespace engram::memory

// A GPU that fails while it is used: what is said of it, and that nobody waits for it then. Under
// emulation only, whose device can be broken and repaired.
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "memory/device/device.h"
#include "memory/device/device_cuda.h"
#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/dies.h"

namespace engram::memory {
namespace {

using Catch::Contains;

// Four rows of sixteen bytes that a kernel copies; the device works again when it is gone.
struct Rig {
  ~Rig() { cuda_emulation::repair(); }

  View view(const Buffer& buffer) const { return {buffer.data(), 4, 4, 4, DType::kF32}; }
  void copy_rows() { device->copy_rows(*stream, view(to), view(from), rows.as<int32_t>(), 4); }
  void fill(float value) {
    for (int i = 0; i < 16; ++i) from.as<float>()[i] = value;
    for (int i = 0; i < 4; ++i) rows.as<int32_t>()[i] = i;
  }
  // What the rows have become; the emulation's buffers are host memory.
  float copied() const { return to.as<float>()[15]; }

  std::unique_ptr<Device> device = make_cuda_device(0).value();
  std::unique_ptr<Stream> stream = device->make_stream("work");
  std::unique_ptr<Event> event = device->make_event();
  Buffer from = device->allocate_pinned("from", 64).value();
  Buffer rows = device->allocate_pinned("rows", 16).value();
  Buffer to = device->allocate("to", 64).value();
};

}  // namespace

TEST_CASE("a call that is wrong ends the process", "[cuda]") {
  CHECK(tests::dies([] {
    Rig rig;
    rig.device->copy_strided(*rig.stream, rig.to.data(), 4, rig.from.data(), 4, 8, 2);
  }));
}

TEST_CASE("a kernel at fault is named, and nothing is done or waited for afterwards", "[cuda]") {
  Rig rig;
  cuda_emulation::arm({.kernel = "copy_rows_kernel", .count = 2});
  rig.fill(1.f);
  rig.copy_rows();
  rig.stream->synchronize();
  CHECK(rig.device->failure().ok());
  CHECK(rig.copied() == 1.f);

  rig.fill(2.f);
  rig.copy_rows();
  bool worked = false;
  rig.stream->enqueue_host([&] { worked = true; });
  rig.stream->synchronize();
  const Status failure = rig.device->failure();
  CHECK(failure.code() == Code::kUnavailable);
  CHECK_THAT(
      failure.message(),
      Contains("an illegal memory access was encountered (cudaErrorIllegalAddress)") &&
          Contains("memory/device/device_cuda.cu:") && Contains("copy_rows_kernel<uint4>") &&
          Contains("4x1x1 blocks of 512x1x1 threads") && !Contains("\n"));

  const std::unique_ptr<Stream> other = rig.device->make_stream("other");
  const std::unique_ptr<Event> later = rig.device->make_event();
  rig.copy_rows();
  rig.device->copy(*rig.stream, rig.to.data(), rig.from.data(), 64);
  rig.stream->enqueue_host([&] { worked = true; });
  rig.stream->record(*rig.event);
  rig.stream->record(*later);
  other->wait(*rig.event, nullptr);
  other->enqueue_host([&] { worked = true; });
  CHECK(rig.event->done());
  CHECK(later->done());
  rig.event->synchronize();
  later->synchronize();
  other->synchronize();
  rig.stream->synchronize();
  CHECK_FALSE(worked);
  CHECK(rig.copied() == 1.f);
  CHECK(rig.device->allocate("more", 64).status().message() == failure.message());
  CHECK(rig.device->allocate_pinned("more", 64).status().message() == failure.message());
  CHECK(rig.device->record(*rig.stream, [] {}).status().message() == failure.message());
  CHECK(rig.device->failure().message() == failure.message());
}

TEST_CASE("a GPU that is gone is met by whichever call comes next", "[cuda]") {
  const std::vector<std::pair<std::string, std::function<void(Rig&)>>> calls = {
      {"synchronize", [](Rig& r) { r.stream->synchronize(); }},
      {"synchronize an event", [](Rig& r) { r.event->synchronize(); }},
      {"ask an event", [](Rig& r) { CHECK(r.event->done()); }},
      {"record an event", [](Rig& r) { r.stream->record(*r.event); }},
      {"wait", [](Rig& r) { r.stream->wait(*r.event, nullptr); }},
      {"host work", [](Rig& r) { r.stream->enqueue_host([] { FAIL("was called"); }); }},
      {"copy", [](Rig& r) { r.device->copy(*r.stream, r.to.data(), r.from.data(), 64); }},
      {"kernel", [](Rig& r) { r.copy_rows(); }},
      {"stream", [](Rig& r) { r.device->make_stream("late")->synchronize(); }},
      {"event", [](Rig& r) { CHECK(r.device->make_event()->done()); }},
      {"allocate", [](Rig& r) { CHECK_FALSE(r.device->allocate("late", 64).ok()); }},
  };
  for (const auto& [name, call] : calls) {
    CAPTURE(name);
    Rig rig;
    rig.fill(1.f);
    rig.copy_rows();
    rig.stream->synchronize();
    cuda_emulation::break_device(cudaErrorECCUncorrectable);
    call(rig);
    CHECK(rig.device->failure().code() == Code::kUnavailable);
    CHECK_THAT(rig.device->failure().message(), Contains("ECC") && Contains("device_cuda.cu:"));
    rig.stream->synchronize();
    // Another device is refused as long as the GPU is broken, and works once it is whole.
    CHECK(make_cuda_device(0).status().code() == Code::kFailedPrecondition);
    cuda_emulation::repair();
    REQUIRE(make_cuda_device(0).ok());
  }
}

TEST_CASE("a GPU may fail while work is recorded, and while it is replayed", "[cuda]") {
  {
    Rig rig;
    const Result<std::unique_ptr<Recording>> recording = rig.device->record(*rig.stream, [&] {
      rig.copy_rows();
      cuda_emulation::break_device(cudaErrorIllegalAddress);
      rig.copy_rows();
    });
    CHECK_FALSE(recording.ok());
    rig.stream->synchronize();
    CHECK_FALSE(rig.device->failure().ok());
  }
  Rig rig;
  const std::unique_ptr<Recording> recording =
      rig.device->record(*rig.stream, [&] { rig.copy_rows(); }).value();
  cuda_emulation::arm({.kernel = "copy_rows_kernel", .count = 2});
  rig.fill(1.f);
  recording->replay(*rig.stream);
  rig.stream->synchronize();
  CHECK(rig.copied() == 1.f);
  rig.fill(2.f);
  recording->replay(*rig.stream);
  rig.stream->record(*rig.event);
  rig.event->synchronize();
  CHECK(rig.copied() == 1.f);
  CHECK_THAT(
      rig.device->failure().message(),
      Contains("cudaErrorIllegalAddress") && Contains("last launched: a CUDA graph"));
  recording->replay(*rig.stream);
}

}  // namespace engram::memory

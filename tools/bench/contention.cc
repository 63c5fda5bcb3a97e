#include "tools/bench/contention.h"

#include <cstring>
#include <utility>

#include "memory/device/host_memory.h"

namespace engram::tools::bench {
namespace {

using Clock = std::chrono::steady_clock;

// A page group of a cache of keys and values.
constexpr int64_t kPiece = int64_t{1} << 20;

}  // namespace

memory::Result<std::unique_ptr<Contention>> Contention::start(int64_t bytes) {
  memory::Result<memory::Buffer> buffer = memory::allocate_host("second stream of traffic", bytes);
  if (!buffer.ok()) return buffer.status();
  return std::unique_ptr<Contention>(new Contention(std::move(buffer).value()));
}

Contention::Contention(memory::Buffer buffer)
    : buffer_(std::move(buffer)), begin_(Clock::now()), thread_([this] { copy(); }) {}

Contention::~Contention() {
  stop_.store(true);
  thread_.join();
}

void Contention::copy() {
  uint8_t* data = buffer_.as<uint8_t>();
  const int64_t half = buffer_.bytes() / 2;
  while (true) {
    for (int64_t at = 0; at < half; at += kPiece) {
      if (stop_.load(std::memory_order_relaxed)) return;
      std::memcpy(data + half + at, data + at, static_cast<size_t>(kPiece));
      copied_.fetch_add(kPiece, std::memory_order_relaxed);
    }
  }
}

double Contention::gbps() const {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  return 1e-9 * static_cast<double>(copied_.load()) / seconds;
}

}  // namespace engram::tools::bench

#include "tests/bench/gpu/host_block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"

namespace engram::bench::gpu {
namespace {

using memory::HostRange;
using memory::Status;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int threads() {
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

const char* backing_name(Backing backing) {
  switch (backing) {
    case Backing::kDriver:
      return "cudaHostAlloc";
    case Backing::kSmall:
      return "small pages, registered";
    case Backing::kHuge:
      return "transparent huge pages, registered";
    case Backing::kExplicit:
      return "2 MiB pages of the pool, registered";
    case Backing::kNode:
      return "cuMemCreate";
  }
  return "";
}

HostBlock::HostBlock(memory::Device& device, Backing backing, int64_t bytes)
    : device_(device), backing_(backing), bytes_(bytes) {}

HostBlock::~HostBlock() {
  if (backing_ == Backing::kDriver || backing_ == Backing::kNode) return;
  if (pinned_) device_.unpin({.data = data_, .bytes = bytes_});
  if (data_ != nullptr) memory::release_pages(data_, bytes_);
}

Status HostBlock::map() {
  data_ = memory::reserve_pages(bytes_, memory::kHugePage);
  if (data_ == nullptr) return memory::resource_exhausted("no address space for the block");
  const int64_t page = backing_ == Backing::kExplicit ? memory::kHugePage : 0;
  if (!memory::map_pages(data_, bytes_, page, -1)) {
    return memory::resource_exhausted(
        std::string(backing_name(backing_)) + ": " + std::strerror(errno));
  }
  if (backing_ != Backing::kExplicit) {
    const int advice = backing_ == Backing::kHuge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    madvise(data_, static_cast<size_t>(bytes_), advice);  // a kernel without them has small pages
  }
  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  const int error = memory::populate_pages(data_, bytes_, threads());
  if (error != 0) return memory::resource_exhausted(std::strerror(error));
  touch_seconds_ = seconds_since(begin);
  huge_share_ = memory::huge_page_share(data_, bytes_);
  const std::chrono::steady_clock::time_point touched = std::chrono::steady_clock::now();
  const Status pinned = device_.pin({.data = data_, .bytes = bytes_});
  if (!pinned.ok()) return pinned;
  pinned_ = true;
  pin_seconds_ = seconds_since(touched);
  return {};
}

void HostBlock::fill() {
  const int count = threads();
  const int64_t words = bytes_ / 8;
  std::vector<std::thread> workers;
  for (int t = 0; t < count; ++t) {
    workers.emplace_back([this, t, count, words] {
      uint64_t* to = static_cast<uint64_t*>(data_);
      for (int64_t i = words * t / count; i < words * (t + 1) / count; ++i) {
        to[i] = block_word(static_cast<uint64_t>(i));
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
}

memory::Result<std::unique_ptr<HostBlock>> HostBlock::make(
    memory::Device& device, Backing backing, int64_t bytes) {
  ENGRAM_CHECK(bytes % memory::kHugePage == 0);
  std::unique_ptr<HostBlock> block(new HostBlock(device, backing, bytes));
  if (backing == Backing::kDriver || backing == Backing::kNode) {
    const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    memory::Result<memory::Buffer> buffer =
        backing == Backing::kDriver ? device.allocate_pinned("table", bytes)
                                    : device.allocate_host_pages(bytes, device.numa_node());
    ENGRAM_RETURN_IF_ERROR(buffer.status());
    if (backing == Backing::kNode) memory::zero_pages(buffer.value().data(), bytes, threads());
    block->touch_seconds_ = seconds_since(begin);
    block->buffer_ = std::move(buffer).value();
    block->data_ = block->buffer_.data();
  } else {
    ENGRAM_RETURN_IF_ERROR(block->map());
  }
  block->fill();
  return block;
}

int64_t table_bytes(double table_gib) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  const double gib =
      table_gib > 0 ? table_gib : 0.6 * static_cast<double>(memory::available_bytes("")) / kGiB;
  return std::max<int64_t>(1, static_cast<int64_t>(gib)) * kGiB;
}

}  // namespace engram::bench::gpu

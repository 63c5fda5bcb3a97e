// Host memory of one kind that the GPU reads where it lies, filled with words that say where they
// are. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memory/device/device.h"

namespace engram::bench::gpu {

enum class Backing {
  kDriver,    // cudaHostAlloc()
  kSmall,     // small pages, registered
  kHuge,      // transparent huge pages, registered
  kExplicit,  // 2 MiB pages of the system's pool, registered
  kNode,      // cuMemCreate() on the GPU's NUMA node
};
const char* backing_name(Backing backing);

// Word i of a block.
inline uint64_t block_word(uint64_t i) {
  i = (i ^ (i >> 31)) * 0x7fb5d329728ea185u;
  return i ^ (i >> 27);
}

class HostBlock {
 public:
  // Why there is none: RESOURCE_EXHAUSTED, or what pinning says.
  static memory::Result<std::unique_ptr<HostBlock>> make(
      memory::Device& device, Backing backing, int64_t bytes);
  ~HostBlock();

  const void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  double touch_seconds() const { return touch_seconds_; }  // kDriver and kNode: all of it
  double pin_seconds() const { return pin_seconds_; }
  double huge_share() const { return huge_share_; }

 private:
  HostBlock(memory::Device& device, Backing backing, int64_t bytes);
  memory::Status map();
  void fill();

  memory::Device& device_;
  const Backing backing_;
  const int64_t bytes_;
  memory::Buffer buffer_;  // kDriver, kNode
  void* data_ = nullptr;
  bool pinned_ = false;
  double touch_seconds_ = 0;
  double pin_seconds_ = 0;
  double huge_share_ = 0;
};

// What a table may take here: 60 % of what is available, in whole GiB, or what --table-gib says.
int64_t table_bytes(double table_gib);

}  // namespace engram::bench::gpu

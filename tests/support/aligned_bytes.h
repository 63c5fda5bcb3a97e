// Memory on a block boundary, as direct reads want it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace engram::tests {

class AlignedBytes {
 public:
  // `bytes` is rounded up to blocks; all are 0xEE, so that what was not read shows.
  explicit AlignedBytes(int64_t bytes)
      : bytes_((bytes + kBlock - 1) / kBlock * kBlock),
        data_(
            static_cast<uint8_t*>(std::aligned_alloc(kBlock, static_cast<size_t>(bytes_))),
            std::free) {
    std::memset(data_.get(), 0xEE, static_cast<size_t>(bytes_));
  }

  uint8_t* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int64_t kBlock = 4096;

  int64_t bytes_;
  std::unique_ptr<uint8_t, void (*)(void*)> data_;
};

}  // namespace engram::tests

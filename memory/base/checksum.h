// The checksum of table files: XXH3-64, seed 0. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace engram::memory {

// XXH3-64 of data[0, bytes), with the best vector instructions at hand.
uint64_t checksum64(const void* data, int64_t bytes);

// The same, from bytes that come one part after the other.
class Checksum64 {
 public:
  Checksum64();
  void add(const void* data, int64_t bytes);
  uint64_t value() const;  // of all parts so far

 private:
  std::unique_ptr<void, void (*)(void*)> state_;
};

// 16 lower-case hex digits.
std::string hex64(uint64_t value);

}  // namespace engram::memory

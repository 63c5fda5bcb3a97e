// The checksum of table files: XXH3-64, seed 0. Any thread.
#pragma once

#include <cstdint>
#include <string>

namespace engram::memory {

// XXH3-64 of data[0, bytes), with the best vector instructions at hand.
uint64_t checksum64(const void* data, int64_t bytes);

// 16 lower-case hex digits.
std::string hex64(uint64_t value);

}  // namespace engram::memory

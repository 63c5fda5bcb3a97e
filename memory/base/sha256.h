// SHA-256, for identities that people compare. Any thread.
#pragma once

#include <array>
#include <cstdint>

namespace engram::memory {

using Sha256 = std::array<uint8_t, 32>;

Sha256 sha256(const void* data, int64_t bytes);

}  // namespace engram::memory

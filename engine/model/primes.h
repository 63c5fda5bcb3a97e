// Prime numbers, for the moduli of hashed tables.
#pragma once

#include <cstdint>

namespace engram::engine {

bool is_prime(uint64_t n);

}  // namespace engram::engine

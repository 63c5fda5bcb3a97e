#include "memory/base/checksum.h"

#include <cstddef>

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

namespace engram::memory {

uint64_t checksum64(const void* data, int64_t bytes) {
  return XXH3_64bits(data, static_cast<size_t>(bytes));  // the dispatch header redirects the name
}

std::string hex64(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace engram::memory

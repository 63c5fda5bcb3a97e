#include "memory/base/checksum.h"

#include <cstddef>

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "memory/base/status.h"

namespace engram::memory {
namespace {

XXH3_state_t* state_of(void* state) {
  return static_cast<XXH3_state_t*>(state);
}

}  // namespace

uint64_t checksum64(const void* data, int64_t bytes) {
  return XXH3_64bits(data, static_cast<size_t>(bytes));  // the dispatch header redirects the name
}

Checksum64::Checksum64()
    : state_(XXH3_createState(), [](void* state) {
        static_cast<void>(XXH3_freeState(state_of(state)));
      }) {
  ENGRAM_CHECK(state_ != nullptr);
  ENGRAM_CHECK(XXH3_64bits_reset(state_of(state_.get())) == XXH_OK);
}

void Checksum64::add(const void* data, int64_t bytes) {
  const size_t size = static_cast<size_t>(bytes);
  ENGRAM_CHECK(XXH3_64bits_update(state_of(state_.get()), data, size) == XXH_OK);
}

uint64_t Checksum64::value() const {
  return XXH3_64bits_digest(state_of(state_.get()));
}

std::string hex64(uint64_t value) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace engram::memory

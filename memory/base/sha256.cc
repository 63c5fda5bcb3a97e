#include "memory/base/sha256.h"

#include <openssl/evp.h>

#include "memory/base/status.h"

namespace engram::memory {

Sha256 sha256(const void* data, int64_t bytes) {
  Sha256 digest{};
  unsigned int size = 0;
  const int done =
      EVP_Digest(data, static_cast<size_t>(bytes), digest.data(), &size, EVP_sha256(), nullptr);
  ENGRAM_CHECK(done == 1);
  ENGRAM_CHECK(size == digest.size());
  return digest;
}

}  // namespace engram::memory

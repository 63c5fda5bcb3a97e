#include "memory/base/checksum.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>

namespace engram::memory {
namespace {

TEST_CASE("checksums are XXH3-64", "[checksum]") {
  // The published value of the empty input; the others are of the scalar implementation.
  CHECK(hex64(checksum64("", 0)) == "2d06800538d394c2");
  CHECK(hex64(checksum64("engram", 6)) == "9626598a318a7c72");
  CHECK(hex64(checksum64(std::string(100000, 'x').data(), 100000)) == "d8b99a30e426ac41");
}

TEST_CASE("parts give the checksum of the whole", "[checksum]") {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    std::string bytes(random() % 100000, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    Checksum64 sum;
    for (size_t at = 0; at < bytes.size();) {
      const size_t part = std::min<size_t>(bytes.size() - at, random() % 5000);
      sum.add(bytes.data() + at, static_cast<int64_t>(part));
      at += part;
    }
    CHECK(sum.value() == checksum64(bytes.data(), static_cast<int64_t>(bytes.size())));
  }
}

}  // namespace
}  // namespace engram::memory

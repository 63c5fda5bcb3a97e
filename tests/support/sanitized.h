// Less of the same for sanitizers: they look at code rather than at numbers, and make all of it
// slow.
#pragma once

#include <cstddef>
#include <span>

namespace engram::tests {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// All cases; where a sanitizer watches, the first `enough`.
template <typename T, size_t N>
std::span<const T> cases(const T (&all)[N], size_t enough) {
  return std::span<const T>(all).first(kSanitized ? enough : N);
}

}  // namespace engram::tests

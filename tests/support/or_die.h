// For helpers and benchmarks that cannot go on without something: prints the reason and ends the
// program with exit status 1.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "memory/base/status.h"

namespace engram::tests {

[[noreturn]] inline void die(const std::string& reason) {
  std::fprintf(stderr, "%s\n", reason.c_str());
  std::exit(1);
}

inline void ok_or_die(const memory::Status& status) {
  if (!status.ok()) die(status.to_string());
}

template <typename T>
T value_or_die(memory::Result<T> result) {
  ok_or_die(result.status());
  return std::move(result).value();
}

}  // namespace engram::tests

// Runs a test once per vector target that this machine has, the others disabled. REQUIRES: no op is
// in flight when a target changes.
#pragma once

#include <hwy/highway.h>

#include <catch2/catch.hpp>
#include <cstdint>

namespace engram::test {

template <typename F>
void on_each_target(const F& body) {
  const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  for (int64_t rest = all; rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    CAPTURE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    body(target);
  }
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace engram::test

#include "memory/base/simd.h"

#include <hwy/highway.h>

namespace engram::memory {

const char* simd_target() {
  const int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);  // the best one has the lowest bit
}

}  // namespace engram::memory

// The one place that is asked which vector instructions this process runs with. Kernels dispatch
// by themselves; this is for names in logs and benchmarks.
#pragma once

namespace engram::memory {

const char* simd_target();  // "AVX3", "AVX2", "NEON", "SCALAR"

}  // namespace engram::memory

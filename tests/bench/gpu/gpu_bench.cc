// What the CUDA backend reaches on a GPU, each against a limit of the machine measured in the same
// run. The groups: limits, linear, attention, gather, engram, sampling, engine (--filter NAME).
#include <string>

#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/figures.h"

namespace engram::bench::gpu {
namespace {

constexpr Group kGroups[] = {{"limits", run_limits},       {"linear", run_linear},
                             {"attention", run_attention}, {"engram", run_engram},
                             {"sampling", run_sampling},   {"gather", run_gather},
                             {"engine", run_engine}};

}  // namespace
}  // namespace engram::bench::gpu

int main(int argc, char** argv) {
  return engram::bench::gpu::run_groups(engram::bench::gpu::kGroups, argc, argv);
}

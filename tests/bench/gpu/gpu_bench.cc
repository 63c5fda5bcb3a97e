// What the CUDA backend reaches on a GPU, each against a limit of the machine measured in the same
// run. The groups: limits, linear, attention, gather, engram, sampling, engine (--filter NAME).
#include <string>

#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/figures.h"

namespace engram::bench::gpu {
namespace {

struct Group {
  const char* name;
  void (*run)(Figures&, const Options&);
};
constexpr Group kGroups[] = {{"limits", run_limits},       {"linear", run_linear},
                             {"attention", run_attention}, {"engram", run_engram},
                             {"sampling", run_sampling},   {"gather", run_gather},
                             {"engine", run_engine}};

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  Figures figures(options);
  for (const Group& group : kGroups) {
    if (std::string(group.name).find(options.filter) == std::string::npos) continue;
    if (figures.seconds_left() > 0) {
      group.run(figures, options);
    } else {
      figures.add_missing(group.name, "all of it", "no time was left");
    }
  }
  return figures.status();
}

}  // namespace
}  // namespace engram::bench::gpu

int main(int argc, char** argv) {
  return engram::bench::gpu::run(argc, argv);
}

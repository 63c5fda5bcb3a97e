// By which way the rows of a fetch reach a device with memory of its own, chosen by what was
// measured. No device here.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::engine {

//   kLoads     a kernel reads them from where they are stored, a warp per row
//   kBulk      a kernel reads them through shared memory (bulk copies or cp.async)
//   kDistinct  as kBulk, each row once and nearly in the order of their addresses
//   kHost      the host's threads gather them, and one copy brings them over
enum class GatherWay : uint8_t { kLoads, kBulk, kDistinct, kHost };
inline constexpr GatherWay kGatherWays[] = {
    GatherWay::kLoads, GatherWay::kBulk, GatherWay::kDistinct, GatherWay::kHost};
const char* gather_way_name(GatherWay way);  // "loads"

// The value of --ngram-gather; nothing: "auto". INVALID_ARGUMENT names what there is.
memory::Result<std::optional<GatherWay>> parse_gather_way(const std::string& name);

// What fetching the rows of so many tokens took.
struct GatherTimes {
  int64_t tokens = 0;
  std::array<std::optional<double>, std::size(kGatherWays)> us = {};  // by way; none: not measured
};

// The fastest way of each measured number of tokens. The kernels need no thread of the host, so a
// way is only left for a later one of kGatherWays that is more than a twentieth faster.
class GatherChoice {
 public:
  explicit GatherChoice(GatherWay always = GatherWay::kLoads) : steps_{{0, always}} {}
  // REQUIRES: ascending numbers of tokens, each with a time; at least one.
  explicit GatherChoice(std::span<const GatherTimes> measured);

  // Of any number of tokens: as for the measured one that is nearest by ratio.
  GatherWay way(int64_t tokens) const;
  // "loads; from 23 tokens bulk"
  std::string text() const;

 private:
  struct Step {
    int64_t tokens = 0;  // from so many on
    GatherWay way = GatherWay::kLoads;
  };
  std::vector<Step> steps_;  // ascending, the first from 0 on
};

// The numbers of tokens that are measured, up to `most`: 1, 8, 64, 512, 8192.
std::vector<int64_t> gather_sizes(int64_t most);

// Measures each size by each way, small sizes first, until `budget_us` are spent; the first size is
// always measured.
//   measure  the time in us of one fetch of so many tokens; what it spent is taken to be kRepeats
//            times that
std::vector<GatherTimes> measure_gathers(
    std::span<const int64_t> sizes,
    std::span<const GatherWay> ways,
    double budget_us,
    const std::function<double(GatherWay, int64_t tokens)>& measure);
inline constexpr int kGatherRepeats = 7;  // of a measurement

// "1: loads 4.1, bulk 5.0, host 12.3 us; 8: ..."
std::string gather_times_text(std::span<const GatherTimes> measured);

}  // namespace engram::engine

// Which rows of which table live in which tier: what the user asks for as text, the memory there
// is, and the decision with its reasons. Arithmetic only; nothing is allocated or opened here.
//
// A table is cut into at most three row ranges, one per tier, so that a lookup compares an id with
// one number per cut. The faster tier takes rows from the end of the table: whole columns, then the
// end of one more. Every column is read once per token, so any choice moves the same share of the
// lookups; but short n-grams, whose columns come first, repeat far more (with 2^20 n-grams cached
// 91 % of the 2-grams hit, 49 % of the 4-grams; distinct in a prompt chunk of 8k tokens 40 %
// against 63 %). Deduplication and the row cache save the slow tier most reads when it holds those.
//
// Tables are served in the order given: the one whose rows are needed first comes first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/geometry.h"

namespace engram::memory {

// From fast to slow.
enum class Tier : uint8_t { kHbm, kHost, kNvme };

const char* tier_name(Tier tier);  // "host"

struct TierRequest {
  Tier tier = Tier::kHost;
  int64_t bytes = -1;  // at most; -1: as many as fit
};

// Tiers from fast to slow, each at most once, at least one.
struct Placement {
  std::string text = {};
  std::vector<TierRequest> tiers = {};
};

// "hbm:8GiB,host:auto,nvme": tiers from fast to slow, with a size, or `auto` or nothing for as much
// as fits; nvme takes what is left and has no size. "auto" alone is "host,nvme". INVALID_ARGUMENT
// names the part that is wrong.
Result<Placement> parse_placement(const std::string& text);

struct PlannedTable {
  std::string name;  // "layer 1"
  TableGeometry geometry = {};
  int64_t row_bytes = 0;  // between rows, scales included
  // What loading a part of the table takes beyond its rows: its first extent is loaded whole.
  int64_t slack_bytes = 0;
  std::string not_on_nvme = {};  // why its rows cannot be read one by one; empty: they can
};

// Memory that something else takes from the same budget.
struct MemoryUse {
  std::string what;  // "weights"
  int64_t bytes = 0;
};

struct PlacementLimits {
  int64_t host_bytes = 0;  // available, before the uses below are taken
  std::vector<MemoryUse> host_uses = {};
  int64_t hbm_bytes = 0;
  std::vector<MemoryUse> hbm_uses = {};
  std::string no_hbm = {};  // why there is none; empty: there is
};

struct RowRange {
  Tier tier = Tier::kHost;
  int64_t first = 0;
  int64_t end = 0;
  int64_t bytes = 0;  // of the rows
};

struct TablePlacement {
  std::string name;
  std::vector<RowRange> ranges;  // cover [0, rows), ascending, none empty
};

struct PlacementPlan {
  std::vector<TablePlacement> tables;  // in the order given
  int64_t hbm_bytes = 0;
  int64_t host_bytes = 0;
  int64_t nvme_bytes = 0;
  std::vector<std::string> lines;  // what was decided and why, for the log
};

// FAILED_PRECONDITION for a tier that this machine or this table does not have: a tier asked for is
// never replaced by another in silence. RESOURCE_EXHAUSTED when a size asked for is not there, or
// when rows are left over.
Result<PlacementPlan> plan_placement(
    const std::vector<PlannedTable>& tables,
    const Placement& placement,
    const PlacementLimits& limits);

}  // namespace engram::memory

#include "memory/table/placement.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "memory/base/byte_text.h"

namespace engram::memory {
namespace {

constexpr Tier kTiers[] = {Tier::kHbm, Tier::kHost, Tier::kNvme};

Status bad_part(const std::string& text, const std::string& part, const std::string& reason) {
  return invalid_argument("table placement \"" + text + "\", part \"" + part + "\": " + reason);
}

Result<TierRequest> parse_part(const std::string& text, const std::string& part) {
  const size_t colon = part.find(':');
  const std::string name = part.substr(0, colon);
  const auto tier = std::find_if(
      std::begin(kTiers), std::end(kTiers), [&name](Tier t) { return name == tier_name(t); });
  if (tier == std::end(kTiers)) {
    return bad_part(text, part, "expected hbm, host or nvme, found \"" + name + "\"");
  }
  TierRequest request{.tier = *tier};
  if (colon == std::string::npos) return request;
  const std::string size = part.substr(colon + 1);
  if (*tier == Tier::kNvme) {
    return bad_part(text, part, "nvme takes what is left and has no size");
  }
  if (size == "auto") return request;
  const Result<int64_t> bytes = parse_bytes(size);
  if (!bytes.ok()) return bad_part(text, part, bytes.status().message() + ", or auto");
  if (bytes.value() <= 0) return bad_part(text, part, "expected more than 0 bytes");
  request.bytes = bytes.value();
  return request;
}

// "12.00 GiB available less 1.20 GiB weights and 0.50 GiB reserve: 10.30 GiB"
std::string budget_text(int64_t available, const std::vector<MemoryUse>& uses, int64_t left) {
  std::string text = format_bytes(available) + " available";
  for (size_t i = 0; i < uses.size(); ++i) {
    text += i == 0 ? " less " : i + 1 == uses.size() ? " and " : ", ";
    text += format_bytes(uses[i].bytes) + " " + uses[i].what;
  }
  return uses.empty() ? text : text + ": " + format_bytes(left);
}

// What one tier may still take, and why no more.
struct Budget {
  bool unlimited = false;
  int64_t left = 0;
  std::string text = {};
};

Result<Budget> make_budget(
    const Placement& placement,
    const TierRequest& request,
    int64_t wanted,
    const PlacementLimits& limits) {
  if (request.tier == Tier::kNvme) return Budget{.unlimited = true};
  const bool hbm = request.tier == Tier::kHbm;
  const std::string name = tier_name(request.tier);
  if (hbm && !limits.no_hbm.empty()) {
    return failed_precondition(
        "table placement \"" + placement.text + "\" asks for hbm: " + limits.no_hbm);
  }
  const std::vector<MemoryUse>& uses = hbm ? limits.hbm_uses : limits.host_uses;
  const int64_t available = hbm ? limits.hbm_bytes : limits.host_bytes;
  Budget budget{.left = available};
  for (const MemoryUse& use : uses) budget.left -= use.bytes;
  budget.left = std::max<int64_t>(0, budget.left);
  budget.text = budget_text(available, uses, budget.left);
  if (request.bytes < 0) return budget;
  const int64_t asked = std::min(request.bytes, wanted);
  if (asked > budget.left) {
    return resource_exhausted(
        "table placement \"" + placement.text + "\": " + format_bytes(asked) + " of " + name +
        " wanted, " + budget.text);
  }
  budget.left = request.bytes;
  budget.text = format_bytes(request.bytes) + " asked for";
  return budget;
}

// Rows [0, end) of one table are still without a place.
struct Rest {
  const PlannedTable* table = nullptr;
  int64_t end = 0;
  std::vector<RowRange> ranges = {};  // from the end of the table on

  int64_t bytes() const { return end * table->row_bytes; }
};

int64_t total(const std::vector<Rest>& rests) {
  int64_t bytes = 0;
  for (const Rest& rest : rests) bytes += rest.bytes();
  return bytes;
}

// As many of the table's last rows as the budget holds.
void take(Tier tier, Budget* budget, Rest* rest) {
  const PlannedTable& table = *rest->table;
  int64_t rows = rest->end;
  if (!budget->unlimited && rest->bytes() > budget->left) {
    rows = std::max<int64_t>(0, budget->left - table.slack_bytes) / table.row_bytes;
    rows = std::min(rows, rest->end);
  }
  if (rows == 0) return;
  const int64_t first = rest->end - rows;
  const int64_t bytes = rows * table.row_bytes;
  rest->ranges.push_back({.tier = tier, .first = first, .end = rest->end, .bytes = bytes});
  rest->end = first;
  const bool part = first > 0;
  budget->left -= bytes + (part ? table.slack_bytes : 0);
}

// "columns 4 to 15", "41 % of column 3", "all columns"
std::string columns_text(const TableGeometry& geometry, const RowRange& range) {
  if (range.first == 0 && range.end == geometry.rows) return "all columns";
  int first_whole = -1;
  int last_whole = -1;
  std::string parts;
  for (int c = 0; c < geometry.columns(); ++c) {
    const size_t index = static_cast<size_t>(c);
    const int64_t begin = geometry.offsets[index];
    const int64_t modulus = geometry.moduli[index];
    const int64_t covered = std::min(range.end, begin + modulus) - std::max(range.first, begin);
    if (covered <= 0) continue;
    if (covered == modulus) {
      if (first_whole < 0) first_whole = c;
      last_whole = c;
      continue;
    }
    char share[48];
    std::snprintf(
        share, sizeof share, "%.1f %% of column %d",
        100. * static_cast<double>(covered) / static_cast<double>(modulus), c);
    parts += (parts.empty() ? "" : " and ") + std::string(share);
  }
  if (first_whole < 0) return parts.empty() ? "padding" : parts;
  std::string text = first_whole == last_whole ? "column " + std::to_string(first_whole)
                                               : "columns " + std::to_string(first_whole) + " to " +
                                                     std::to_string(last_whole);
  return parts.empty() ? text : text + " and " + parts;
}

std::string range_text(const Rest& rest, const RowRange& range) {
  return rest.table->name + ": rows " + std::to_string(range.first) + " to " +
         std::to_string(range.end - 1) + " of " + std::to_string(rest.table->geometry.rows) +
         " in " + tier_name(range.tier) + " (" + columns_text(rest.table->geometry, range) + ", " +
         format_bytes(range.bytes) + ")";
}

Status check_nvme(const Placement& placement, const std::vector<Rest>& rests) {
  for (const Rest& rest : rests) {
    if (rest.end == 0 || rest.table->not_on_nvme.empty()) continue;
    return failed_precondition(
        "table placement \"" + placement.text + "\": " + format_bytes(rest.bytes()) + " of " +
        rest.table->name + " would be on nvme: " + rest.table->not_on_nvme);
  }
  return {};
}

Status left_over(
    const Placement& placement, const std::vector<Rest>& rests, const std::string& reasons) {
  const auto first =
      std::find_if(rests.begin(), rests.end(), [](const Rest& rest) { return rest.end > 0; });
  std::string message = "table placement \"" + placement.text + "\": no place for " +
                        format_bytes(total(rests)) + " of table rows, from " + first->table->name +
                        " on (" + reasons + ")";
  message += first->table->not_on_nvme.empty()
                 ? "; add nvme to read those rows from the table file"
                 : "; on nvme they cannot be: " + first->table->not_on_nvme;
  return resource_exhausted(message);
}

PlacementPlan finish(std::vector<Rest> rests, std::vector<std::string> lines) {
  PlacementPlan plan;
  plan.lines = std::move(lines);
  for (Rest& rest : rests) {
    std::reverse(rest.ranges.begin(), rest.ranges.end());
    for (const RowRange& range : rest.ranges) {
      plan.lines.push_back(range_text(rest, range));
      (range.tier == Tier::kHbm    ? plan.hbm_bytes
       : range.tier == Tier::kHost ? plan.host_bytes
                                   : plan.nvme_bytes) += range.bytes;
    }
    plan.tables.push_back({rest.table->name, std::move(rest.ranges)});
  }
  return plan;
}

}  // namespace

const char* tier_name(Tier tier) {
  switch (tier) {
    case Tier::kHbm:
      return "hbm";
    case Tier::kHost:
      return "host";
    case Tier::kNvme:
      return "nvme";
  }
  return "?";
}

Result<Placement> parse_placement(const std::string& text) {
  Placement placement{.text = text};
  if (text == "auto") {
    placement.tiers = {{.tier = Tier::kHost}, {.tier = Tier::kNvme}};
    return placement;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const Result<TierRequest> request = parse_part(text, part);
    if (!request.ok()) return request.status();
    if (!placement.tiers.empty() && placement.tiers.back().tier >= request.value().tier) {
      return bad_part(text, part, "tiers go from fast to slow (hbm, host, nvme), each once");
    }
    placement.tiers.push_back(request.value());
    begin = end + 1;
  }
  return placement;
}

Result<PlacementPlan> plan_placement(
    const std::vector<PlannedTable>& tables,
    const Placement& placement,
    const PlacementLimits& limits) {
  std::vector<Rest> rests;
  for (const PlannedTable& table : tables) {
    ENGRAM_CHECK(table.row_bytes > 0);
    rests.push_back({.table = &table, .end = table.geometry.rows});
  }
  std::vector<std::string> lines;
  lines.push_back(
      "placement " + placement.text + ": " + format_bytes(total(rests)) + " in " +
      std::to_string(tables.size()) + (tables.size() == 1 ? " table" : " tables"));
  std::string reasons;
  for (const TierRequest& request : placement.tiers) {
    const int64_t wanted = total(rests);
    if (request.tier == Tier::kNvme) ENGRAM_RETURN_IF_ERROR(check_nvme(placement, rests));
    Result<Budget> budget = make_budget(placement, request, wanted, limits);
    if (!budget.ok()) return budget.status();
    if (request.tier == Tier::kHost) {
      // What cannot be anywhere slower goes first.
      for (Rest& rest : rests) {
        if (!rest.table->not_on_nvme.empty()) take(request.tier, &budget.value(), &rest);
      }
    }
    for (Rest& rest : rests) take(request.tier, &budget.value(), &rest);
    if (request.tier == Tier::kNvme) continue;
    const std::string line = std::string(tier_name(request.tier)) + ": " + format_bytes(wanted) +
                             " wanted, " + budget.value().text;
    lines.push_back(line + "; takes " + format_bytes(wanted - total(rests)));
    reasons += (reasons.empty() ? "" : "; ") + line;
  }
  if (total(rests) > 0) return left_over(placement, rests, reasons);
  return finish(std::move(rests), std::move(lines));
}

}  // namespace engram::memory

#include "memory/table/preflight_set.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "memory/table/table_file.h"

namespace engram::memory {

void limit_to_placement(const Placement& placement, PreflightRequest* request) {
  int64_t host = 0;
  for (const TierRequest& tier : placement.tiers) {
    if (tier.tier == Tier::kNvme) request->may_use_nvme = true;
    if (tier.tier != Tier::kHost) continue;
    host = tier.bytes < 0 ? std::numeric_limits<int64_t>::max() : tier.bytes;
  }
  for (int64_t& bytes : request->table_bytes) {
    bytes = std::min(bytes, host);
    host -= bytes;
  }
}

PreflightRequest preflight_request(const TableRequest& request) {
  PreflightRequest preflight;
  const TableSetOptions& options = request.options;
  preflight.arena = options.arena;
  preflight.other_bytes = options.arena.other_bytes + options.cache_bytes;
  if (!options.socket.empty()) return preflight;
  for (size_t i = 0; i < request.wanted.size(); ++i) {
    if (options.directory.empty()) {
      if (i < request.sources.size()) {
        preflight.table_bytes.push_back(request.sources[i]->image_bytes());
      }
      continue;
    }
    const std::string path = table_file_path(options.directory, request.wanted[i].layer);
    const Result<std::shared_ptr<const TableFile>> file = TableFile::open(path);
    if (!file.ok()) continue;
    preflight.table_bytes.push_back(file.value()->header().data_bytes);
    if (preflight.table_file.empty()) preflight.table_file = path;
  }
  if (options.placement.empty()) return preflight;
  const Result<Placement> placement = parse_placement(options.placement);
  if (placement.ok()) limit_to_placement(placement.value(), &preflight);
  return preflight;
}

}  // namespace engram::memory

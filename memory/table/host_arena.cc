#include "memory/table/host_arena.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "memory/base/byte_text.h"
#include "memory/device/host_memory.h"
#include "memory/device/host_pages.h"
#include "memory/device/system_limits.h"
#include "memory/table/page_ladder.h"

namespace engram::memory {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool swappable(const PageBlock& block) {
  return block.kind() == PageKind::kTransparent || block.kind() == PageKind::kSmall;
}

// The one that says less of the memory.
PageKind lesser(PageKind a, PageKind b) {
  if (a == PageKind::kDevice) return b;
  if (b == PageKind::kDevice) return a;
  return std::max(a, b);
}

}  // namespace

const char* page_kind_name(PageKind kind) {
  switch (kind) {
    case PageKind::kHugetlb1G:
      return "1 GiB hugetlb";
    case PageKind::kHugetlb2M:
      return "2 MiB hugetlb";
    case PageKind::kTransparent:
      return "transparent huge";
    case PageKind::kDevice:
      return "2 MiB cuMemCreate";
    case PageKind::kSmall:
      break;
  }
  return "small";
}

std::string ArenaReport::text() const {
  char numbers[160];
  std::snprintf(
      numbers, sizeof numbers, " pages, %ld %% huge, touched in %.2f s",
      std::lround(100. * huge_share), touch_seconds);
  std::string line = what + ": " + format_bytes(bytes);
  if (copies > 1) line += " in " + std::to_string(copies) + " copies";
  line.append(" of ").append(page_kind_name(pages)).append(numbers);
  if (pinned_bytes > 0) {
    std::snprintf(numbers, sizeof numbers, " pinned in %.2f s", pin_seconds);
    line.append(", ").append(format_bytes(pinned_bytes)).append(numbers);
  }
  if (shareable) line += ", shareable";
  line += ", NUMA " + numa;
  if (!nodes.empty()) {
    line += " (on node";
    for (const int node : nodes) line.append(" ").append(std::to_string(node));
    line += ")";
  }
  for (const std::string& finding : findings) line.append("; ").append(finding);
  return line;
}

struct TableMemory::State {
  // Constant.
  int64_t bytes = 0;
  std::vector<PageBlock> blocks;
  std::vector<int> block_nodes;
  NumaTopology topology;
  Device* device = nullptr;
  PinPages wish = PinPages::kNo;
  int64_t device_bytes = 0;  // of blocks that the device made

  // Guarded by mu.
  mutable std::mutex mu;
  PinnedRanges pinned;
  bool pin_refused = false;
  ArenaReport report;
};

TableMemory::TableMemory() = default;
TableMemory::TableMemory(std::unique_ptr<State> state) : state_(std::move(state)) {}
TableMemory::TableMemory(TableMemory&&) noexcept = default;
TableMemory& TableMemory::operator=(TableMemory&&) noexcept = default;
TableMemory::~TableMemory() = default;

int64_t TableMemory::bytes() const {
  return state_ == nullptr ? 0 : state_->bytes;
}

int TableMemory::copies() const {
  return state_ == nullptr ? 0 : static_cast<int>(state_->blocks.size());
}

uint8_t* TableMemory::copy(int index) const {
  return state_ == nullptr ? nullptr : state_->blocks[static_cast<size_t>(index)].data();
}

int TableMemory::copy_node(int index) const {
  return state_->block_nodes[static_cast<size_t>(index)];
}

PageKind TableMemory::copy_pages(int index) const {
  return state_->blocks[static_cast<size_t>(index)].kind();
}

double TableMemory::copy_huge_share(int index) const {
  return state_->blocks[static_cast<size_t>(index)].huge_share();
}

const uint8_t* TableMemory::local() const {
  if (copies() <= 1) return data();
  const int node = state_->topology.current_node();
  const std::vector<int>& nodes = state_->block_nodes;
  const auto found = std::find(nodes.begin(), nodes.end(), node);
  return copy(found == nodes.end() ? 0 : static_cast<int>(found - nodes.begin()));
}

int TableMemory::descriptor(int index) const {
  return state_->blocks[static_cast<size_t>(index)].descriptor();
}

int64_t TableMemory::mapped_bytes(int index) const {
  return state_->blocks[static_cast<size_t>(index)].mapped_bytes();
}

Status TableMemory::settle(int64_t offset, int64_t bytes) {
  ENGRAM_CHECK(offset >= 0 && bytes >= 0 && bytes <= state_->bytes - offset);
  for (int i = 1; i < copies(); ++i) {
    std::memcpy(copy(i) + offset, copy(0) + offset, static_cast<size_t>(bytes));
  }
  if (state_->wish == PinPages::kNo) return Status();
  {
    const std::lock_guard<std::mutex> lock(state_->mu);
    if (state_->pin_refused && state_->wish == PinPages::kTry) return Status();
  }
  Status pinned = pin(offset, bytes);
  return state_->wish == PinPages::kRequire ? pinned : Status();
}

Status TableMemory::pin(int64_t offset, int64_t bytes) {
  ENGRAM_CHECK(offset >= 0 && bytes >= 0 && bytes <= state_->bytes - offset);
  ENGRAM_CHECK(offset % kSmallPage == 0);
  ENGRAM_CHECK((offset + bytes) % kSmallPage == 0 || offset + bytes == state_->bytes);
  if (state_->device == nullptr)
    return failed_precondition(state_->report.what + ": no device pins it");
  const int64_t end = round_up(offset + bytes, kSmallPage);
  const std::lock_guard<std::mutex> lock(state_->mu);
  const Clock::time_point begin = Clock::now();
  for (const PageBlock& block : state_->blocks) {
    if (block.kind() == PageKind::kDevice) continue;  // pinned from the start
    const HostRange range{block.data() + offset, end - offset, swappable(block), false};
    const Status status = state_->pinned.add(state_->device, range);
    state_->report.pinned_bytes = state_->device_bytes + state_->pinned.bytes();
    if (!status.ok()) {
      if (!state_->pin_refused) {
        state_->report.findings.push_back("not pinned: " + status.message());
      }
      state_->pin_refused = true;
      return {status.code(), state_->report.what + ": " + status.message()};
    }
  }
  state_->report.pin_seconds += seconds_since(begin);
  return Status();
}

void TableMemory::unpin() {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mu);
  state_->pinned.clear();
  state_->report.pinned_bytes = state_->device_bytes;
}

ArenaReport TableMemory::report() const {
  if (state_ == nullptr) return {};
  const std::lock_guard<std::mutex> lock(state_->mu);
  return state_->report;
}

namespace {

// All copies at once, so that the last one does not fail after minutes of touching the others.
Status check_peak(const std::string& what, int64_t bytes, int copies, const ArenaOptions& options) {
  const int64_t from_pools = pool_bytes_for(bytes, copies, options);
  const int64_t wanted = bytes * copies - from_pools + options.other_bytes + kMemoryReserve;
  const int64_t available = available_bytes(options.root);
  if (wanted <= available) return Status();
  std::string message = what + ": " + std::to_string(bytes) + " bytes of host memory wanted";
  if (copies > 1) message += " in each of " + std::to_string(copies) + " copies";
  message += ", " + std::to_string(options.other_bytes) + " for the rest of the process; " +
             std::to_string(available) + " available";
  if (from_pools > 0) {
    message += " beside " + std::to_string(from_pools) + " in the pools of huge pages";
  }
  return resource_exhausted(message);
}

std::vector<int> gpu_nodes(const ArenaOptions& options, const Device* device) {
  if (!options.gpu_nodes.empty() || device == nullptr || device->numa_node() < 0) {
    return options.gpu_nodes;
  }
  return {device->numa_node()};
}

}  // namespace

Result<TableMemory> allocate_table_memory(
    const std::string& what, int64_t bytes, const ArenaOptions& options, Device* device) {
  if (bytes <= 0)
    return invalid_argument(what + ": a table of " + std::to_string(bytes) + " bytes");
  auto state = std::make_unique<TableMemory::State>();
  state->topology = read_numa_topology(options.root);
  const Result<NumaPlan> plan = plan_numa(
      what, bytes, options.numa, state->topology, gpu_nodes(options, device),
      state->topology.current_node());
  if (!plan.ok()) return plan.status();
  const std::vector<NumaPlacement>& copies = plan.value().copies;
  ENGRAM_RETURN_IF_ERROR(check_peak(what, bytes, static_cast<int>(copies.size()), options));

  ArenaReport& report = state->report;
  const Clock::time_point begin = Clock::now();
  std::set<int> nodes;
  report.huge_share = 1.;
  report.pages = PageKind::kDevice;
  for (const NumaPlacement& placement : copies) {
    Result<PageBlock> block =
        obtain_pages(what, bytes, options, placement, device, &report.findings);
    if (!block.ok()) return block.status();
    const PageBlock& pages = block.value();
    report.mapped_bytes += pages.mapped_bytes();
    report.huge_share = std::min(report.huge_share, pages.huge_share());
    report.pages = lesser(report.pages, pages.kind());
    if (pages.kind() == PageKind::kDevice) state->device_bytes += pages.mapped_bytes();
    for (const int node : nodes_of_pages(pages.data(), pages.mapped_bytes())) nodes.insert(node);
    const bool bound = placement.mode == NumaMode::kBind && placement.nodes.size() == 1;
    state->block_nodes.push_back(bound ? placement.nodes.front() : -1);
    state->blocks.push_back(std::move(block).value());
  }
  report.touch_seconds = seconds_since(begin);
  report.what = what;
  report.bytes = bytes;
  report.pinned_bytes = state->device_bytes;
  report.copies = static_cast<int>(copies.size());
  report.shareable = options.shareable;
  report.numa = plan.value().reason;
  report.nodes.assign(nodes.begin(), nodes.end());
  state->bytes = bytes;
  state->device = device;
  state->wish = device == nullptr ? PinPages::kNo : options.pin;
  return TableMemory(std::move(state));
}

}  // namespace engram::memory

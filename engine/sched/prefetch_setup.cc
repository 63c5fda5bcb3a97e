// What a Prefetch is made of: staging memory, events, the stores it reads and the mode it is in.
#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>

#include "engine/sched/prefetch.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;

// More than the few fetches of one step, so that reusing an entry hardly ever waits.
constexpr size_t kFetchesInFlight = 8;

}  // namespace

Result<FetchMode> fetch_mode(const std::string& name) {
  constexpr std::pair<const char*, FetchMode> kModes[] = {
      {"prefetch", FetchMode::kPrefetch},
      {"sync", FetchMode::kSync},
      {"skip", FetchMode::kSkip},
      {"zero", FetchMode::kZero}};
  std::string list;
  for (const auto& [known, mode] : kModes) {
    if (name == known) return mode;
    list.append(list.empty() ? "" : ", ").append(known);
  }
  return memory::invalid_argument("--ngram-fetch must be one of " + list + ", got " + name);
}

Prefetch::Prefetch(
    memory::Device& device, memory::Stream& compute, const TokenMap& token_map, FetchMode mode)
    : device_(device), compute_(compute), token_map_(token_map), mode_(mode) {}

Status Prefetch::allocate_staging(Layer& layer, memory::DType act) {
  const memory::TableGeometry& g = layer.store->geometry();
  const std::string what = "n-gram staging of layer " + std::to_string(g.layer);
  const int64_t width = g.vector_width();
  const int64_t bytes = slots_ * width * memory::dtype_bytes(act);
  Result<memory::Buffer> staging = device_.allocate(what, bytes);
  if (!staging.ok()) return staging.status();
  layer.staging = std::move(staging).value();
  layer.view = memory::make_view(layer.staging.data(), act, slots_, width);
  layer.gathered = layer.view;
  if (device_.host_reads_buffers()) return {};
  Result<memory::Buffer> host = device_.allocate_pinned(what, bytes);
  if (!host.ok()) return host.status();
  layer.host_staging = std::move(host).value();
  layer.gathered.data = layer.host_staging.data();
  return {};
}

Result<std::unique_ptr<Prefetch>> Prefetch::make(
    memory::Device& device,
    memory::Stream& compute,
    std::span<const std::unique_ptr<memory::RowStore>> stores,
    const TokenMap& token_map,
    memory::DType act,
    FetchMode mode,
    const PrefetchLimits& limits) {
  std::unique_ptr<Prefetch> p(new Prefetch(device, compute, token_map, mode));
  p->limits_ = limits;
  if (mode == FetchMode::kSkip || stores.empty()) return p;
  // The step being run, a chunk ahead of it, and the tokens it samples.
  p->slots_ = 2 * limits.max_num_batched_tokens + limits.max_num_seqs;
  p->free_ = SlotPool(p->slots_, limits.max_num_seqs);
  p->slot_serial_.resize(static_cast<size_t>(p->slots_));
  constexpr int64_t kLine = 64;  // of a cache: a counter each
  constexpr int64_t kCounters = 3;
  Result<memory::Buffer> counters =
      device.allocate_pinned("n-gram times", kLine * kCounters * std::ssize(stores));
  if (!counters.ok()) return counters.status();
  p->counters_ = std::move(counters).value();
  std::byte* counter = p->counters_.as<std::byte>();
  for (const std::unique_ptr<memory::RowStore>& store : stores) {
    std::unique_ptr<Layer>& layer = p->layers_.emplace_back(std::make_unique<Layer>());
    for (std::atomic<int64_t>** ns :
         {&layer->waited_ns, &layer->device_gather_ns, &layer->step_gather_ns}) {
      *ns = new (counter) std::atomic<int64_t>(0);
      counter += kLine;
    }
    p->use_store(*layer, *store);
    layer->ready = device.make_event();
    ENGRAM_RETURN_IF_ERROR(p->allocate_staging(*layer, act));
  }
  p->order_.resize(p->layers_.size());
  std::iota(p->order_.begin(), p->order_.end(), size_t{0});
  std::ranges::sort(p->order_, {}, [&](size_t i) { return stores[i]->geometry().layer; });
  for (size_t i = 0; i < kFetchesInFlight; ++i) {
    std::unique_ptr<Fetch>& fetch = p->ring_.emplace_back(std::make_unique<Fetch>());
    fetch->row_ids.resize(p->layers_.size());
    fetch->failures.resize(p->layers_.size());
    for (size_t l = 0; l < p->layers_.size(); ++l) fetch->gathered.push_back(device.make_event());
    fetch->finished = device.make_event();
    if (device.host_reads_buffers()) continue;
    Result<memory::Buffer> slots =
        device.allocate_pinned("staging slots", p->slots_ * static_cast<int64_t>(sizeof(int32_t)));
    if (!slots.ok()) return slots.status();
    fetch->device_slots = std::move(slots).value();
  }
  p->side_ = device.make_stream("ngram-rows", memory::StreamPriority::kHigh);
  if (mode == FetchMode::kZero) ENGRAM_RETURN_IF_ERROR(p->set_mode(mode));
  return p;
}

Prefetch::~Prefetch() {
  for (const std::unique_ptr<Fetch>& fetch : ring_) fetch->finished->synchronize();
}

Status Prefetch::decode_on_device(memory::EnqueueDecode decode) {
  ENGRAM_CHECK(!device_.host_reads_buffers());
  constexpr int kMostThreads = 8;  // they fill a link
  decode_ = decode;
  workers_ = std::make_unique<memory::CpuWorkers>(std::min(kMostThreads, memory::usable_cores()));
  for (const std::unique_ptr<Fetch>& fetch : ring_) {
    for (const std::unique_ptr<Layer>& layer : layers_) {
      const int64_t ids = slots_ * layer->store->geometry().columns();
      Result<memory::Buffer> buffer =
          device_.allocate_pinned("row ids", ids * static_cast<int64_t>(sizeof(int64_t)));
      if (!buffer.ok()) return buffer.status();
      fetch->device_ids.push_back(std::move(buffer).value());
    }
  }
  int64_t columns = 0;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    columns = std::max<int64_t>(columns, layer->store->geometry().columns());
  }
  Result<memory::DistinctRows> distinct =
      memory::DistinctRows::make(device_, limits_.max_num_batched_tokens * columns);
  if (!distinct.ok()) return distinct.status();
  distinct_ = std::move(distinct).value();
  for (const std::unique_ptr<Layer>& layer : layers_) find_direct(*layer);
  return {};
}

void Prefetch::use_store(Layer& layer, memory::RowStore& store) const {
  layer.store = &store;
  layer.host_rows = device_.host_reads_buffers() && !store.in_memory().empty();
}

void Prefetch::find_direct(Layer& layer) const {
  layer.direct.clear();
  const std::vector<memory::PlacedRows> parts = layer.store->in_memory();
  const auto readable = [&](const memory::PlacedRows& part) {
    const uint8_t* scales = part.place.scales;
    return part.in_device || (device_.reads_host(part.place.values) &&
                              (scales == nullptr || device_.reads_host(scales)));
  };
  if (decode_ != nullptr && parts.size() <= 2 && std::ranges::all_of(parts, readable)) {
    layer.direct = parts;
    return;
  }
  ENGRAM_CHECK(std::ranges::none_of(parts, &memory::PlacedRows::in_device));
}

void Prefetch::leave_decodes_to(StepRows* steps) {
  ENGRAM_CHECK(known_.empty());
  steps_ = steps;
  tell_steps();
}

void Prefetch::tell_steps() {
  if (steps_ == nullptr) return;
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = *layers_[l];
    steps_->use(l, layer.store->geometry(), layer.direct, layer.choice, layer.step_gather_ns);
  }
}

int64_t Prefetch::staging_bytes() const {
  int64_t bytes = distinct_.bytes();
  for (const std::unique_ptr<Layer>& layer : layers_) {
    bytes += layer->staging.bytes() + layer->host_staging.bytes();
  }
  return bytes;
}

Status Prefetch::set_mode(FetchMode mode) {
  ENGRAM_CHECK(known_.empty());
  ENGRAM_CHECK(in_step_.empty());
  if (layers_.empty() && mode != FetchMode::kSkip) {
    return memory::failed_precondition(
        "there is no staging memory for n-gram rows: the engine was started without them");
  }
  drain();
  mode_ = mode;
  if (mode != FetchMode::kZero) return {};
  for (const std::unique_ptr<Layer>& layer : layers_) clear_staging(*layer);
  compute_.synchronize();
  return {};
}

void Prefetch::clear_staging(Layer& layer) {
  const memory::View& to = layer.gathered;
  const int64_t bytes = to.rows * to.cols * memory::dtype_bytes(to.dtype);
  std::memset(to.data, 0, static_cast<size_t>(bytes));
  if (to.data != layer.view.data) device_.copy(compute_, layer.view.data, to.data, bytes);
}

}  // namespace engram::engine

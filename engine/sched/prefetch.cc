#include "engine/sched/prefetch.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using SteadyClock = std::chrono::steady_clock;

// More than the few fetches of one step, so that reusing an entry hardly ever waits.
constexpr size_t kFetchesInFlight = 8;

int64_t ns_since(SteadyClock::time_point begin) {
  return std::chrono::nanoseconds(SteadyClock::now() - begin).count();
}

int64_t row_bytes(const memory::TableGeometry& g) {
  return g.value_bytes() + g.scale_bytes();
}

// Of a request's set of rows.
int64_t row_key(size_t table, int64_t row) {
  return (static_cast<int64_t>(table) << 48) | row;
}

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
  for (const std::unique_ptr<memory::RowStore>& store : stores) {
    std::unique_ptr<Layer>& layer = p->layers_.emplace_back(std::make_unique<Layer>());
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
  p->side_ = device.make_stream("ngram-rows");
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

int64_t Prefetch::staging_bytes() const {
  int64_t bytes = 0;
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

void Prefetch::add(uint64_t sequence, uint64_t request) {
  known_[sequence].request = request;
  usage_[request];
}

// A failure that is noticed later is nobody's.
void Prefetch::free_slot(int32_t slot) {
  free_.give_back(slot);
  slot_serial_[static_cast<size_t>(slot)] = 0;
  failed_.erase(slot);
}

void Prefetch::free_staged(Known& known, int64_t begin, int64_t end) {
  const auto first = known.staged.lower_bound(begin);
  const auto last = known.staged.lower_bound(end);
  for (auto at = first; at != last; ++at) free_slot(at->second.slot);
  known.staged.erase(first, last);
}

void Prefetch::free_failed(Known& known, int64_t begin, int64_t end) {
  const auto last = known.staged.lower_bound(end);
  for (auto at = known.staged.lower_bound(begin); at != last;) {
    const int32_t slot = at->second.slot;
    if (!failed_.contains(slot)) {
      ++at;
      continue;
    }
    free_slot(slot);
    at = known.staged.erase(at);
  }
}

void Prefetch::drop(uint64_t sequence) {
  free_staged(known_.at(sequence), 0, INT64_MAX);
}

void Prefetch::forget(uint64_t sequence) {
  drop(sequence);
  known_.erase(sequence);
}

Prefetch::Fetch& Prefetch::next_fetch() {
  count_fetched();
  Fetch& fetch = *ring_[++serial_ % ring_.size()];
  fetch.finished->synchronize();
  settle(fetch);
  fetch.serial = serial_;
  fetch.tokens = 0;
  fetch.for_step = false;
  fetch.hash_ns = 0;
  fetch.gather_ns.store(0);
  fetch.slots.clear();
  for (std::vector<int64_t>& ids : fetch.row_ids) ids.clear();
  fetch.owners.clear();
  fetch.chosen.clear();
  fetch.verified.reset();
  return fetch;
}

int64_t Prefetch::staged_tokens(const FetchRange& range) const {
  const std::map<int64_t, Staged>& staged = known_.at(range.sequence).staged;
  return std::distance(staged.lower_bound(range.begin), staged.lower_bound(range.end));
}

// Adds the range's tokens that are not staged yet, at most `most` of them. apart: in the slots of
// decode steps.
void Prefetch::stage(Fetch& fetch, const FetchRange& range, int64_t most, bool apart) {
  Known& known = known_.at(range.sequence);
  for (size_t i = known.canonical.size(); i < range.tokens.size(); ++i) {
    known.canonical.push_back(token_map_.of(range.tokens[i]));
  }
  int64_t begin = range.begin;
  while (begin < range.end && most > 0) {
    if (known.staged.contains(begin)) {
      ++begin;
      continue;
    }
    int64_t end = begin;
    if (!apart && range.end - begin > 1) free_.seek_run(std::min(range.end - begin, most));
    while (end < range.end && end - begin < most && !known.staged.contains(end)) {
      const int32_t slot = apart ? free_.take_apart() : free_.take();
      fetch.slots.push_back(slot);
      known.staged[end++] = {slot, fetch.serial};
      slot_serial_[static_cast<size_t>(slot)] = fetch.serial;
    }
    for (size_t l = 0; l < layers_.size(); ++l) {
      const memory::TableGeometry& g = layers_[l]->store->geometry();
      std::vector<int64_t>& ids = fetch.row_ids[l];
      const size_t before = ids.size();
      ids.resize(before + static_cast<size_t>((end - begin) * g.columns()));
      hash_rows(g, known.canonical, begin, end, ids.data() + before);
      if (fetches_ahead() && layers_[l]->host_rows && std::ssize(ids) <= kRowsAtOnce) {
        layers_[l]->store->will_gather(std::span<const int64_t>(ids).subspan(before));
      }
      if (!quarantined_.empty()) mark_quarantined(fetch, l, fetch.tokens);
    }
    fetch.tokens += end - begin;
    most -= end - begin;
    fetch.owners.push_back({known.request, range.tokens, begin, end - begin});
    begin = end;
  }
}

void Prefetch::note_failures(const Fetch& fetch) {
  for (const size_t index : order_) {
    const Failure& failure = fetch.failures[index];
    if (failure.status.ok()) continue;
    Layer& layer = *layers_[index];
    layer.failed_tokens += static_cast<int64_t>(failure.tokens.size());
    const Status status = memory::data_loss(
        "n-gram rows of layer " + std::to_string(layer.store->geometry().layer) + " (table " +
        layer.store->version() + "): " + failure.status.to_string());
    for (const int32_t token : failure.tokens) {
      const int32_t slot = fetch.slots[static_cast<size_t>(token)];
      if (slot_serial_[static_cast<size_t>(slot)] == fetch.serial) failed_.emplace(slot, status);
    }
  }
}

// REQUIRES: its gathers are done. Shares its times among the requests that are still there.
void Prefetch::settle(Fetch& fetch) {
  if (fetch.settled) return;
  fetch.settled = true;
  note_failures(fetch);
  for (const Owner& owner : fetch.owners) {
    const auto found = usage_.find(owner.request);
    if (found == usage_.end()) continue;
    const double share = static_cast<double>(owner.tokens) / static_cast<double>(fetch.tokens);
    found->second.hash_ns += share * static_cast<double>(fetch.hash_ns);
    found->second.gather_ns += share * static_cast<double>(fetch.gather_ns.load());
  }
}

void Prefetch::count_usage(const Fetch& fetch) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    const memory::TableGeometry& g = layers_[l]->store->geometry();
    const int64_t* id = fetch.row_ids[l].data();
    for (const Owner& owner : fetch.owners) {
      FetchUsage& usage = usage_.at(owner.request);
      const int64_t rows = owner.tokens * g.columns();
      usage.rows += rows;
      usage.bytes += rows * row_bytes(g);
      for (int64_t i = 0; i < rows; ++i, ++id) {
        usage.unique.insert(row_key(l, *id));
      }
    }
  }
}

void Prefetch::look_ahead(std::span<const FetchRange> expected) {
  count_fetched();
  if (!fetches_ahead()) return;
  std::map<uint64_t, const FetchRange*> by_sequence;
  for (const FetchRange& range : expected) by_sequence[range.sequence] = &range;
  for (auto& [id, known] : known_) {
    const auto found = by_sequence.find(id);
    if (found == by_sequence.end()) {
      free_staged(known, 0, INT64_MAX);
    } else {
      free_staged(known, 0, found->second->begin);
      free_staged(known, found->second->end, INT64_MAX);
    }
  }
  // Room for the whole of the next step is kept free, whoever will be in it.
  const int64_t in_step = static_cast<int64_t>(in_step_.size());
  const int64_t ahead = slots_ - free_slots() - in_step;
  int64_t room = slots_ - limits_.max_num_batched_tokens - limits_.max_num_seqs - ahead;
  room = std::min(room, free_slots());
  Fetch* fetch = nullptr;
  for (const FetchRange& range : expected) {
    if (room <= 0) break;
    if (staged_tokens(range) == range.end - range.begin) continue;
    const SteadyClock::time_point begin = SteadyClock::now();
    if (fetch == nullptr) fetch = &next_fetch();
    const int64_t before = fetch->tokens;
    stage(*fetch, range, room, false);
    room -= fetch->tokens - before;
    fetch->hash_ns += ns_since(begin);
  }
  if (fetch != nullptr && fetch->tokens > 0) enqueue(*fetch, Waiting::kNobody);
}

void Prefetch::fetch_sampled(std::span<const FetchRange> ranges) {
  if (!fetches_ahead() || ranges.empty()) return;
  ENGRAM_CHECK(in_step_.empty());
  Fetch& fetch = next_fetch();
  fetch.for_step = true;
  const SteadyClock::time_point begin = SteadyClock::now();
  for (const FetchRange& range : ranges) {
    const int64_t room = free_slots() - limits_.max_num_batched_tokens;
    stage(fetch, range, std::max<int64_t>(room, 0), true);
  }
  fetch.hash_ns = ns_since(begin);
  if (fetch.tokens > 0) enqueue(fetch, Waiting::kStep);
}

int64_t Prefetch::use_stores(std::span<const std::unique_ptr<memory::RowStore>> stores) {
  ENGRAM_CHECK(in_step_.empty());
  if (layers_.empty()) return 0;
  ENGRAM_CHECK(stores.size() == layers_.size());
  drain();
  const int64_t before = free_slots();
  for (auto& [id, known] : known_) free_staged(known, 0, INT64_MAX);
  for (size_t l = 0; l < layers_.size(); ++l) {
    ENGRAM_CHECK(stores[l]->geometry().vector_width() == layers_[l]->view.cols);
    use_store(*layers_[l], *stores[l]);
    find_direct(*layers_[l]);
  }
  quarantined_.clear();
  return free_slots() - before;
}

void Prefetch::drain() {
  count_fetched();
  for (const std::unique_ptr<Fetch>& fetch : ring_) {
    fetch->finished->synchronize();
    settle(*fetch);
  }
}

void Prefetch::use_verifier(RowVerifier* verifier) {
  drain();
  verifier_ = verifier;
}

std::vector<uint64_t> Prefetch::quarantine(
    size_t table, int64_t row, const memory::Status& status) {
  count_fetched();
  quarantined_.emplace(std::pair(table, row), status);
  std::vector<uint64_t> requests;
  for (const auto& [request, usage] : usage_) {
    if (usage.unique.contains(row_key(table, row))) requests.push_back(request);
  }
  return requests;
}

// The fetch's tokens from first_token on.
void Prefetch::mark_quarantined(const Fetch& fetch, size_t table, int64_t first_token) {
  const int64_t columns = layers_[table]->store->geometry().columns();
  const std::vector<int64_t>& ids = fetch.row_ids[table];
  for (size_t i = static_cast<size_t>(first_token * columns); i < ids.size(); ++i) {
    const auto bad = quarantined_.find({table, ids[i]});
    if (bad == quarantined_.end()) continue;
    failed_.emplace(fetch.slots[i / static_cast<size_t>(columns)], bad->second);
  }
}

std::span<const int32_t> Prefetch::prepare(
    const BatchPlan& plan, std::span<const std::span<const int32_t>> tokens_of) {
  ENGRAM_CHECK(in_step_.empty());
  ENGRAM_CHECK(tokens_of.size() == plan.sequences.size());
  step_slots_.clear();
  step_serial_ = 0;
  late_serial_ = 0;
  if (!has_tickets()) return {};
  if (mode_ == FetchMode::kZero) {
    step_slots_.resize(static_cast<size_t>(plan.tokens()));
    std::iota(step_slots_.begin(), step_slots_.end(), 0);
    return step_slots_;
  }
  for (const std::unique_ptr<Fetch>& done : ring_) {
    if (done->finished->done()) settle(*done);
  }
  Fetch* fetch = nullptr;
  const SteadyClock::time_point begin = SteadyClock::now();
  const bool decodes = plan.tokens() == std::ssize(plan.sequences);
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    const PlannedSequence& p = plan.sequences[i];
    Known& known = known_.at(p.sequence);
    free_staged(known, 0, p.begin);
    const FetchRange range{p.sequence, tokens_of[i], p.begin, p.begin + p.count};
    if (!failed_.empty()) free_failed(known, range.begin, range.end);
    if (staged_tokens(range) == p.count) continue;
    if (fetch == nullptr) fetch = &next_fetch();
    stage(*fetch, range, p.count, decodes);
  }
  if (fetch != nullptr && fetch->tokens > 0) {
    fetch->for_step = true;
    fetch->hash_ns = ns_since(begin);
    late_tokens_ += fetch->tokens;
    late_serial_ = fetch->serial;
    enqueue(*fetch, Waiting::kStep);
  }
  for (const PlannedSequence& p : plan.sequences) {
    Known& known = known_.at(p.sequence);
    auto at = known.staged.lower_bound(p.begin);
    for (int64_t position = p.begin; position < p.begin + p.count; ++position) {
      ENGRAM_CHECK(at != known.staged.end());
      ENGRAM_CHECK(at->first == position);
      step_slots_.push_back(at->second.slot);
      const Fetch& from = *ring_[at->second.serial % ring_.size()];
      const bool awaited = from.serial == at->second.serial && !from.at_once;
      if (awaited) step_serial_ = std::max(step_serial_, at->second.serial);
      in_step_.push_back({at->second, known.request});
      at = known.staged.erase(at);
    }
  }
  return step_slots_;
}

std::vector<Ticket> Prefetch::tickets() {
  std::vector<Ticket> tickets;
  if (!has_tickets()) return tickets;
  tickets.reserve(layers_.size());
  const auto gap = [](int32_t slot, int32_t next) { return next != slot + 1; };
  const bool in_order =
      !step_slots_.empty() && std::ranges::adjacent_find(step_slots_, gap) == step_slots_.end();
  const Fetch* fetch = ring_[step_serial_ % ring_.size()].get();
  for (size_t l = 0; l < layers_.size(); ++l) {
    // The side stream is a FIFO: the newest fetch's event stands for all before it. An entry that
    // was used again since had been waited for then.
    const bool in_flight =
        mode_ == FetchMode::kPrefetch && step_serial_ != 0 && fetch->serial == step_serial_;
    const memory::Event* gathered =
        fetch->for_step ? layers_[l]->ready.get() : fetch->gathered[l].get();
    StagedRows staged{
        .ready = in_flight ? gathered : nullptr,
        .waited_ns = &layers_[l]->waited_ns,
        .rows = layers_[l]->view,
        .in_step_order = in_order};
    if (in_order) staged.rows = staged.rows.row_range(step_slots_.front(), std::ssize(step_slots_));
    tickets.emplace_back(staged);
  }
  return tickets;
}

std::vector<StagedRows> Prefetch::standing_rows() const {
  std::vector<StagedRows> rows;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    rows.push_back(
        {.ready = layer->ready.get(), .waited_ns = &layer->waited_ns, .rows = layer->view});
  }
  return rows;
}

std::vector<MissingRows> Prefetch::find_missing(const BatchPlan& plan) const {
  std::vector<MissingRows> missing;
  if (failed_.empty()) return missing;
  for (const PlannedSequence& p : plan.sequences) {
    MissingRows found{.sequence = p.sequence, .status = {}, .fetched_ahead = true};
    for (int64_t token = p.token_begin; token < p.token_begin + p.count; ++token) {
      const Staged& at = in_step_[static_cast<size_t>(token)].at;
      const auto failed = failed_.find(at.slot);
      if (failed == failed_.end()) continue;
      if (found.status.ok()) found.status = failed->second;
      if (at.serial == late_serial_) found.fetched_ahead = false;
    }
    if (!found.status.ok()) missing.push_back(std::move(found));
  }
  return missing;
}

StepFetch Prefetch::commit(const BatchPlan& plan) {
  if (!fetches()) return {};
  ENGRAM_CHECK(static_cast<int64_t>(in_step_.size()) == plan.tokens());
  int64_t waited_ns = 0;
  for (const std::unique_ptr<Layer>& layer : layers_) waited_ns += layer->waited_ns.load();
  StepFetch step;
  step.exposed_wait_ns = waited_ns - std::exchange(waited_before_ns_, waited_ns);
  for (const std::unique_ptr<Fetch>& fetch : ring_) {
    if (fetch->serial <= step_serial_) settle(*fetch);
  }
  step.missing = find_missing(plan);
  std::vector<uint64_t> requests;
  for (const InStep& token : in_step_) {
    free_slot(token.at.slot);
    requests.push_back(token.request);
  }
  std::ranges::sort(requests);
  requests.erase(std::ranges::unique(requests).begin(), requests.end());
  for (const uint64_t request : requests) {
    usage_.at(request).exposed_wait_ns += static_cast<double>(step.exposed_wait_ns);
  }
  in_step_.clear();
  return step;
}

PrefetchStats Prefetch::stats() {
  count_fetched();
  PrefetchStats stats;
  stats.hash_ns = hash_ns_;
  stats.fetches = static_cast<int64_t>(serial_);
  stats.late_tokens = late_tokens_;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    const memory::TableGeometry& g = layer->store->geometry();
    stats.layers.push_back(
        {.layer = g.layer,
         .rows = layer->rows,
         .unique_rows = layer->unique_rows.load(),
         .bytes = layer->bytes,
         .gather_ns = layer->gather_ns.load(),
         .exposed_wait_ns = layer->waited_ns.load(),
         .failed_tokens = layer->failed_tokens});
  }
  return stats;
}

}  // namespace engram::engine

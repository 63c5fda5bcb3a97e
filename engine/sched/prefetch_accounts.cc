// What a fetch was and what became of it: rows and bytes of requests and layers, and what could not
// be read.
#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "engine/sched/prefetch.h"

namespace engram::engine {
namespace {

using memory::Status;

int64_t row_bytes(const memory::TableGeometry& g) {
  return g.value_bytes() + g.scale_bytes();
}

// Of a request's set of rows.
int64_t row_key(size_t table, int64_t row) {
  return (static_cast<int64_t>(table) << 48) | row;
}

// Of a decode step's few ids at most, so that it takes no memory from the heap and no sorting.
int64_t distinct_of_few(std::span<const int64_t> ids) {
  constexpr size_t kPlaces = 256;  // of which the last 64 are only reached by going on
  constexpr size_t kFirst = 192;
  std::array<int64_t, kPlaces> seen;
  seen.fill(-1);
  int64_t count = 0;
  for (const int64_t id : ids) {
    size_t at = static_cast<uint64_t>(id) % kFirst;
    while (seen[at] >= 0 && seen[at] != id) ++at;
    if (seen[at] == id) continue;
    seen[at] = id;
    ++count;
  }
  return count;
}

int64_t distinct(const std::vector<int64_t>& ids) {
  constexpr size_t kFew = 64;
  if (ids.size() <= kFew) return distinct_of_few(ids);
  std::vector<int64_t> sorted = ids;
  std::ranges::sort(sorted);
  return std::ranges::unique(sorted).begin() - sorted.begin();
}

}  // namespace

void Prefetch::count_rows(const Fetch& fetch, size_t index) {
  Layer& layer = *layers_[index];
  const memory::TableGeometry& g = layer.store->geometry();
  layer.rows += std::ssize(fetch.row_ids[index]);
  layer.bytes += std::ssize(fetch.row_ids[index]) * row_bytes(g);
}

void Prefetch::count_distinct(const Fetch& fetch) {
  for (size_t l = 0; l < layers_.size(); ++l) layers_[l]->unique_rows += distinct(fetch.row_ids[l]);
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
      usage.unique.insert({id, static_cast<size_t>(rows)}, row_key(l, 0));
      id += rows;
    }
  }
}

// But for those whose row ids are not there so far.
void Prefetch::count_fetched() {
  std::erase_if(uncounted_, [this](Fetch* fetch) {
    if (fetch->when_sampled && !fetch->finished->done()) return false;
    if (fetch->by_step && !can_hash(*fetch)) return false;
    if (fetch->by_step) hash_left_to_step(*fetch);
    if (fetch->when_sampled) {
      hash_ns_ += fetch->hash_ns;
      leave_out_unwanted(*fetch);
      for (size_t l = 0; l < layers_.size(); ++l) count_rows(*fetch, l);
    }
    count_usage(*fetch);
    if (fetch->in_compute || fetch->by_step || mode_ == FetchMode::kSync) count_distinct(*fetch);
    if (fetch->by_step) settle(*fetch);
    return true;
  });
}

void Prefetch::count_all_fetched() {
  for (const Fetch* fetch : uncounted_) {
    if (fetch->when_sampled) fetch->finished->synchronize();
  }
  count_fetched();
}

// For each request of the step that is still there.
void Prefetch::count_wait(int64_t ns) {
  step_requests_.clear();
  for (const InStep& token : in_step_) {
    // Mostly the tokens of a request lie together.
    if (step_requests_.empty() || step_requests_.back() != token.request) {
      step_requests_.push_back(token.request);
    }
  }
  std::ranges::sort(step_requests_);
  step_requests_.erase(std::ranges::unique(step_requests_).begin(), step_requests_.end());
  for (const uint64_t request : step_requests_) {
    const auto found = usage_.find(request);
    if (found != usage_.end()) found->second.exposed_wait_ns += static_cast<double>(ns);
  }
}

bool Prefetch::failed(const Fetch& fetch) {
  return !std::ranges::all_of(fetch.failures, &Status::ok, &Failure::status);
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
void Prefetch::settle(const Fetch& fetch) {
  note_failures(fetch);
  for (const Owner& owner : fetch.owners) {
    const auto found = usage_.find(owner.request);
    if (found == usage_.end()) continue;
    const double share = static_cast<double>(owner.tokens) / static_cast<double>(fetch.tokens);
    found->second.hash_ns += share * static_cast<double>(fetch.hash_ns);
    found->second.gather_ns += share * static_cast<double>(fetch.gather_ns.load());
  }
}

std::vector<uint64_t> Prefetch::quarantine(
    size_t table, int64_t row, const memory::Status& status) {
  count_all_fetched();
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

std::vector<MissingRows> Prefetch::find_missing(const BatchPlan& plan) const {
  std::vector<MissingRows> missing;
  if (failed_.empty()) return missing;
  for (const PlannedSequence& p : plan.sequences) {
    MissingRows found{.sequence = p.sequence, .status = {}, .fetched_ahead = true};
    for (int64_t token = p.token_begin; token < p.token_begin + p.count; ++token) {
      const StagedToken& at = in_step_[static_cast<size_t>(token)].at;
      const auto failed = failed_.find(at.slot);
      if (failed == failed_.end()) continue;
      if (found.status.ok()) found.status = failed->second;
      if (at.serial == late_serial_) found.fetched_ahead = false;
    }
    if (!found.status.ok()) missing.push_back(std::move(found));
  }
  return missing;
}

bool Prefetch::times_gathers() const {
  return std::ranges::all_of(
      layers_, [](const std::unique_ptr<Layer>& layer) { return layer->direct.empty(); });
}

PrefetchStats Prefetch::stats() const {
  PrefetchStats stats;
  stats.hash_ns = hash_ns_;
  stats.fetches = static_cast<int64_t>(serial_);
  stats.late_tokens = late_tokens_;
  stats.early_tokens = early_tokens_;
  stats.self_fed_steps = self_fed_steps_;
  for (const std::unique_ptr<Layer>& layer : layers_) {
    const memory::TableGeometry& g = layer->store->geometry();
    PrefetchStats::Layer& of = stats.layers.emplace_back();
    of.layer = g.layer;
    of.rows = layer->rows;
    of.unique_rows = layer->unique_rows.load();
    of.bytes = layer->bytes;
    if (layer->direct.empty() || device_.times_waits()) {
      of.gather_ns =
          layer->gather_ns.load() + layer->device_gather_ns->load() + layer->step_gather_ns->load();
    }
    if (times_waits()) of.exposed_wait_ns = layer->exposed_wait_ns();
    of.failed_tokens = layer->failed_tokens;
  }
  return stats;
}

}  // namespace engram::engine

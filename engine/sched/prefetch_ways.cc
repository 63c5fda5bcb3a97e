// The ways by which rows of a table in memory reach a device with memory of its own, and which of
// them is taken.
#include <algorithm>
#include <array>
#include <chrono>
#include <numeric>
#include <random>

#include "engine/sched/prefetch.h"

namespace engram::engine {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr double kBudgetUs = 3e5;  // of one table's measurements

// Row ids as fetches of so many tokens have them. Long ones are of prompts, and those repeat
// themselves: of 8192 tokens of technical English, 53 % of the rows of 2-, 3- and 4-grams differ.
void draw_rows(int64_t rows, int64_t tokens, std::mt19937_64& random, std::vector<int64_t>* ids) {
  constexpr int64_t kLong = 1024;
  const auto any = [&] { return static_cast<int64_t>(random() % static_cast<uint64_t>(rows)); };
  if (tokens < kLong) {
    std::ranges::generate(*ids, any);
    return;
  }
  // Of n drawn from 0.7 n, so many differ.
  std::vector<int64_t> some(ids->size() * 7 / 10);
  std::ranges::generate(some, any);
  for (int64_t& id : *ids) id = some[random() % some.size()];
}

}  // namespace

bool Prefetch::host_can_gather(const Layer& layer) const {
  return layer.direct.size() == 1 && !layer.direct.front().in_device;
}

GatherWay Prefetch::way_of(const Layer& layer, int64_t tokens) const {
  const GatherWay way = layer.choice.way(tokens);
  const bool host_cannot = way == GatherWay::kHost && !host_can_gather(layer);
  const bool too_many = way == GatherWay::kDistinct &&
                        tokens * layer.store->geometry().columns() > distinct_.most_rows();
  return host_cannot || too_many ? GatherWay::kBulk : way;
}

void Prefetch::enqueue_rows(memory::Stream& stream, Fetch& fetch, size_t index, GatherWay way) {
  const Layer& layer = *layers_[index];
  const std::vector<int64_t>& ids = fetch.row_ids[index];
  if (way == GatherWay::kHost) {
    stream.enqueue_host([this, &fetch, &layer, &ids] { gather_direct(fetch, layer, ids); });
    bring_over(stream, fetch, layer);
    return;
  }
  std::ranges::copy(ids, fetch.device_ids[index].as<int64_t>());
  memory::RowGather gather{
      .geometry = &layer.store->geometry(),
      .place = layer.direct.front().place,
      .ids = fetch.device_ids[index].as<int64_t>(),
      .slots = fetch.device_slots.as<int32_t>(),
      .tokens = fetch.tokens,
      .out = layer.view,
      .kernel = way == GatherWay::kLoads ? memory::RowKernel::kLoads : memory::RowKernel::kBulk,
      .distinct = way == GatherWay::kDistinct ? &distinct_ : nullptr};
  if (layer.direct.size() == 2) {
    gather.upper = layer.direct.back().place;
    gather.upper_first = layer.direct.back().first;
  }
  decode_(stream, gather);
}

// On the gathering stream's thread and the workers.
void Prefetch::gather_direct(
    const Fetch& fetch, const Layer& layer, const std::vector<int64_t>& ids) {
  constexpr int64_t kTokens = 16;  // of a part: some microseconds of work
  const memory::TableGeometry& g = layer.store->geometry();
  workers_->run((fetch.tokens + kTokens - 1) / kTokens, [&](int64_t part) {
    const int64_t first = part * kTokens;
    memory::decode_rows(
        {.geometry = &g,
         .place = layer.direct.front().place,
         .ids = ids.data() + first * g.columns(),
         .slots = fetch.slots.data() + first,
         .tokens = std::min(kTokens, fetch.tokens - first),
         .out = layer.gathered});
  });
}

// What the host gathered, by a copy engine if it lies in one piece.
void Prefetch::bring_over(memory::Stream& stream, const Fetch& fetch, const Layer& layer) {
  const auto gap = [](int32_t slot, int32_t next) { return next != slot + 1; };
  if (std::ranges::adjacent_find(fetch.slots, gap) != fetch.slots.end()) {
    device_.copy_rows(
        stream, layer.view, layer.gathered, fetch.device_slots.as<int32_t>(), fetch.tokens);
    return;
  }
  const memory::View to = layer.view.row_range(fetch.slots.front(), fetch.tokens);
  const memory::View from = layer.gathered.row_range(fetch.slots.front(), fetch.tokens);
  const int64_t bytes = fetch.tokens * to.cols * memory::dtype_bytes(to.dtype);
  device_.copy(stream, to.data, from.data, bytes);
}

// The median of some fetches of drawn rows, from row ids on the host to rows on the device.
double Prefetch::time_gather(size_t index, GatherWay way, int64_t tokens) {
  Fetch& fetch = *ring_.front();
  const memory::TableGeometry& g = layers_[index]->store->geometry();
  std::mt19937_64 random(static_cast<uint64_t>(tokens));
  fetch.tokens = tokens;
  fetch.slots.resize(static_cast<size_t>(tokens));
  std::iota(fetch.slots.begin(), fetch.slots.end(), 0);
  std::ranges::copy(fetch.slots, fetch.device_slots.as<int32_t>());
  std::vector<int64_t>& ids = fetch.row_ids[index];
  ids.resize(static_cast<size_t>(tokens * g.columns()));
  std::array<double, kGatherRepeats> us;
  for (int i = -1; i < kGatherRepeats; ++i) {  // the first one warms up
    draw_rows(g.rows, tokens, random, &ids);
    const SteadyClock::time_point begin = SteadyClock::now();
    enqueue_rows(*side_, fetch, index, way);
    side_->synchronize();
    if (i < 0) continue;
    us[static_cast<size_t>(i)] =
        std::chrono::duration<double, std::micro>(SteadyClock::now() - begin).count();
  }
  std::ranges::nth_element(us, us.begin() + kGatherRepeats / 2);
  return us[kGatherRepeats / 2];
}

std::vector<GatherReport> Prefetch::choose_gathers(std::optional<GatherWay> always) {
  ENGRAM_CHECK(known_.empty());
  std::vector<GatherReport> reports;
  for (size_t index = 0; index < layers_.size(); ++index) {
    Layer& layer = *layers_[index];
    if (layer.direct.empty()) continue;
    GatherReport& report = reports.emplace_back();
    report.layer = layer.store->geometry().layer;
    if (always) {
      layer.choice = GatherChoice(*always);
      layer.choice = GatherChoice(way_of(layer, 1));
    } else {
      std::vector<GatherWay> ways = {GatherWay::kLoads, GatherWay::kBulk, GatherWay::kDistinct};
      if (host_can_gather(layer)) ways.push_back(GatherWay::kHost);
      const std::vector<GatherTimes> measured = measure_gathers(
          gather_sizes(limits_.max_num_batched_tokens), ways, kBudgetUs,
          [&](GatherWay way, int64_t tokens) { return time_gather(index, way, tokens); });
      layer.choice = GatherChoice(measured);
      report.times = gather_times_text(measured);
    }
    report.choice = layer.choice.text();
    if (mode_ == FetchMode::kZero) clear_staging(layer);
  }
  if (mode_ == FetchMode::kZero) compute_.synchronize();
  return reports;
}

}  // namespace engram::engine

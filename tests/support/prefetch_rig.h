// A Prefetch over slow row stores, and a compute stream that runs steps as the model does and
// checks every row it reads.
#pragma once

#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/hash_families.h"
#include "engine/sched/prefetch.h"
#include "engine/sched/scheduler.h"
#include "memory/device/device_cpu.h"

namespace engram::engine {

using memory::TableGeometry;

inline constexpr int64_t kRowWidth = 4;

// Row r of a layer holds r * 8 + k + `shift`: every element says which row it is of. `before` is
// called at the begin of each gather, on the gathering thread.
class SlowStore : public memory::RowStore {
 public:
  SlowStore(TableGeometry geometry, std::function<void()> before, float shift = 0)
      : geometry_(std::move(geometry)), before_(std::move(before)), shift_(shift) {}

  // As if the rows were in host memory: the compute stream gathers a few of them.
  void pretend_in_memory() { in_memory_ = true; }
  std::vector<memory::PlacedRows> in_memory() const override {
    return std::vector<memory::PlacedRows>(in_memory_ ? 1 : 0);
  }

  const TableGeometry& geometry() const override { return geometry_; }
  std::string placement() const override { return "test"; }
  memory::RowStoreStats stats() const override { return {}; }
  std::string version() const override { return "test"; }

  // Gathers into these slots fail; the set changes only while no gather runs.
  void fail(const std::set<int32_t>* slots) { failing_ = slots; }

 private:
  memory::Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      memory::View out,
      std::vector<int32_t>* failed) override {
    ENGRAM_CHECK(!gathering_.exchange(true));  // by one thread at a time
    before_();
    const int64_t columns = geometry_.columns();
    memory::Status status;
    for (int32_t t = 0; t < tokens; ++t) {
      if (failing_ == nullptr || !failing_->contains(slots[t])) continue;
      failed->push_back(t);
      status = memory::unavailable("slot " + std::to_string(slots[t]) + " failed");
    }
    for (int64_t i = 0; i < tokens * columns; ++i) {
      float* to = out.row<float>(slots[i / columns]) + (i % columns) * kRowWidth;
      for (int64_t k = 0; k < kRowWidth; ++k)
        to[k] = static_cast<float>(row_ids[i] * 8 + k) + shift_;
    }
    gathering_ = false;
    return status;
  }

  TableGeometry geometry_;
  bool in_memory_ = false;
  std::atomic<bool> gathering_ = false;
  const std::set<int32_t>* failing_ = nullptr;
  std::function<void()> before_;
  float shift_;
};

inline EngramConfig config() {
  EngramConfig c;
  c.layer_ids = {3, 1};  // drawn in another order than the model reaches them
  c.vocab_size = {50, 60};
  c.n_heads = 2;
  c.head_dim = kRowWidth;
  c.compressed_vocab_size = 20;
  return c;
}

inline TokenMap token_map() {
  TokenMap map;
  for (int32_t i = 0; i < 30; ++i) map.canonical.push_back(i % 20);
  map.pad = 2;
  return map;
}

struct Rig {
  Rig(FetchMode mode,
      const PrefetchLimits& limits,
      std::function<void()> before,
      bool in_memory = false)
      : device(memory::make_cpu_device(1)), compute(device->make_stream("compute")) {
    for (TableGeometry& g : derive_geometries(config(), memory::RowCodec::kF32, map.pad)) {
      stores.push_back(std::make_unique<SlowStore>(std::move(g), before));
      if (in_memory) store(stores.size() - 1).pretend_in_memory();
    }
    auto made = Prefetch::make(*device, *compute, stores, map, DType::kF32, mode, limits);
    REQUIRE(made.ok());
    prefetch = std::move(made).value();
    device->seal();
  }

  // What a layer's staging must hold for one token.
  std::vector<float> expected(
      size_t layer, std::span<const int32_t> tokens, int64_t position) const {
    std::vector<int32_t> canonical;
    for (const int32_t id : tokens) canonical.push_back(map.of(id));
    const TableGeometry& g = stores[layer]->geometry();
    std::vector<int64_t> rows(static_cast<size_t>(g.columns()));
    hash_rows(g, canonical, position, position + 1, rows.data());
    std::vector<float> values;
    for (const int64_t row : rows) {
      for (int64_t k = 0; k < kRowWidth; ++k) values.push_back(static_cast<float>(row * 8 + k));
    }
    return values;
  }

  SlowStore& store(size_t i) { return static_cast<SlowStore&>(*stores[i]); }

  using DType = memory::DType;
  TokenMap map = token_map();
  std::unique_ptr<memory::Device> device;
  std::unique_ptr<memory::Stream> compute;
  std::vector<std::unique_ptr<memory::RowStore>> stores;
  std::unique_ptr<Prefetch> prefetch;
  int steps = 0;
  int steps_in_order = 0;
};

// The staged row of the step's token t.
inline const float* staged_row(const StagedRows& staged, std::span<const int32_t> slots, size_t t) {
  return staged.rows.row<float>(staged.in_step_order ? static_cast<int64_t>(t) : slots[t]);
}

// One step as the model runs it: each layer waits for its ticket, then copies the rows it uses.
inline std::vector<std::vector<float>> run_step(
    Rig& rig,
    std::span<const int32_t> slots,
    std::function<void()> layer_0,
    const std::function<void()>& while_running) {
  std::vector<Ticket> tickets = rig.prefetch->tickets();
  std::vector<std::vector<float>> seen(tickets.size());
  memory::CpuStream& compute = memory::as_cpu(*rig.compute);
  compute.enqueue(std::move(layer_0));
  for (const size_t layer : {size_t{1}, size_t{0}}) {
    const StagedRows rows = tickets[layer].redeem();
    if (rows.ready != nullptr) compute.wait(*rows.ready, rows.waited_ns);
    if (rows.in_step_order && layer == 0) ++rig.steps_in_order;
    compute.enqueue([rows, slots, &to = seen[layer]] {
      for (size_t t = 0; t < slots.size(); ++t) {
        const float* row = staged_row(rows, slots, t);
        to.insert(to.end(), row, row + rows.rows.cols);
      }
    });
  }
  const std::unique_ptr<memory::Event> ran = rig.device->make_event();
  compute.record(*ran);
  while_running();
  ran->synchronize();
  ++rig.steps;
  return seen;
}

// One sequence of `size` tokens, planned whole.
struct OneStep {
  explicit OneStep(int64_t size) : pool(8, 4), scheduler({.max_num_seqs = 1}, pool) {
    Sequence s;
    s.id = 1;
    for (int64_t i = 0; i < size; ++i) s.tokens.push_back(static_cast<int32_t>(i));
    s.prompt_tokens = size;
    scheduler.add(std::move(s));
    plan = scheduler.plan();
  }
  std::vector<std::span<const int32_t>> tokens_of() const { return {scheduler.find(1)->tokens}; }

  memory::PagePool pool;
  Scheduler scheduler;
  BatchPlan plan;
};

inline constexpr PrefetchLimits kSmall{.max_num_batched_tokens = 16, .max_num_seqs = 1};

}  // namespace engram::engine

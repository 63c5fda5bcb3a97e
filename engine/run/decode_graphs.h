// Decode steps that were recorded (CUDA graphs): one recording per batch size, replayed by one call
// instead of some ten launches per layer.
//
// A step with one token per sequence, all of them sampled, is filled up to the next of a few batch
// sizes. The rows that fill it up compute with token 0 at position 0 and write to a cache page of
// their own, and nobody reads their results. Sizes, addresses and launches of a recording are those
// of its batch size; what differs from step to step is in arrays at fixed places in device memory.
// A recording begins with the ids that the step before sampled, where the plan has them from there,
// and the embedding; it ends with the logits, or before them where the logits are computed in
// slices; sampling, which depends on the requests, is enqueued after it. It waits
// for the n-gram rows of a layer just before it reads them. With StepRows they are hashed and
// gathered in the recording itself, on a branch beside the layers before; else the side stream
// gathers them outside of it, before or while it runs.
//
// Engine thread. A step may be enqueued while the one before it runs; the one before that is done.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "engine/ops/ops.h"
#include "engine/sched/batch_plan.h"
#include "engine/sched/prefetch.h"
#include "engine/sched/step_rows.h"
#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::engine {

struct DecodeGraphsLimits {
  int64_t max_num_seqs = 0;
  int64_t max_pages = 0;             // of one sequence
  int64_t logit_rows = 0;            // see ModelLimits
  int32_t scratch_slot = 0;          // of the cache, in no page that is given out
  const int32_t* sampled = nullptr;  // what SampledIds::now of every step is, in device memory
};

// 1, 2, 4, 8, then a size every 8 up to 32, every 16 up to 512, every 64 beyond; the last is
// max_num_seqs.
std::vector<int64_t> decode_batch_sizes(int64_t max_num_seqs);

class DecodeGraphs {
 public:
  // Everything referred to outlives the object. `staged` is Prefetch::standing_rows(); `step_rows`
  // may be null. RESOURCE_EXHAUSTED without memory for the arrays. REQUIRES: device.records().
  static memory::Result<std::unique_ptr<DecodeGraphs>> make(
      memory::Device& device,
      memory::Stream& compute,
      Ops& ops,
      Model& model,
      std::vector<StagedRows> staged,
      StepRows* step_rows,
      const DecodeGraphsLimits& limits);

  // Runs and records every batch size, with n-gram rows as they usually come (by themselves, or in
  // their usual places) or without any; the log says what was made. At start-up: what is not
  // recorded then is recorded when it is needed a second time. What cannot be recorded is said once
  // and launched one by one from then on.
  void record_all(bool with_rows);

  // Whether run() enqueues the step.
  bool takes(const BatchPlan& plan) const;
  // Enqueues the step up to the logits, or, if those are computed in slices, to what they are
  // computed from. The arguments are those of Runner::start().
  void run(
      const BatchPlan& plan,
      std::span<const int32_t> row_slots,
      std::span<const int32_t> windows,
      std::vector<Ticket> tickets);
  // Logits [first, first + count) of the step that run() enqueued, as of Model::logits().
  View logits(int64_t first, int64_t count);
  // The ids of that step, one per row of logits, in device memory.
  const int32_t* ids() const { return batch_of(size_).ids; }

  int64_t replays() const { return replays_; }

 private:
  // Where the n-gram rows of a step are: nowhere; row t in slot t; by the array of slots; where the
  // step itself gathers them.
  enum class Rows : uint8_t { kNone, kInPlace, kBySlot, kByStep };
  struct Key {
    int64_t size = 0;  // batch size
    Rows rows = Rows::kNone;
    auto operator<=>(const Key&) const = default;
  };
  struct Graph {
    bool has_run = false;  // once, launch by launch: its kernels are loaded
    std::unique_ptr<memory::Recording> recording;
    uint64_t rows_version = 0;  // of StepRows, when it was recorded
  };

  DecodeGraphs(
      memory::Device& device,
      memory::Stream& compute,
      Ops& ops,
      Model& model,
      std::vector<StagedRows> staged,
      StepRows* step_rows,
      const DecodeGraphsLimits& limits);
  int64_t size_of(int64_t sequences) const;
  Batch batch_of(int64_t size) const;
  int32_t* windows_of_step() const;
  SampledFeed feed_of(const Key& key, int64_t tokens) const;
  void upload(
      const BatchPlan& plan,
      std::span<const int32_t> row_slots,
      std::span<const int32_t> windows,
      int64_t size);
  void wait_for(std::vector<Ticket> tickets);
  std::vector<Ticket> tickets_of(const Key& key);
  void enqueue(const Key& key);
  void record(const Key& key);
  void count(const BatchPlan& plan, const Key& key);

  // Constant.
  memory::Device& device_;
  memory::Stream& compute_;
  Ops& ops_;
  Model& model_;
  const std::vector<StagedRows> staged_;
  StepRows* const step_rows_;  // null: the rows of a step are always gathered outside of it
  const DecodeGraphsLimits limits_;
  const std::vector<int64_t> sizes_;
  memory::Buffer arrays_;  // see batch_of()
  std::array<memory::Buffer, 2> host_arrays_;

  std::map<Key, Graph> graphs_;
  bool refused_ = false;  // no further recordings
  int64_t size_ = 0;      // of the step enqueued last
  size_t steps_ = 0;      // enqueued
  int64_t replays_ = 0;
};

}  // namespace engram::engine

// Runs one planned step on the device: uploads the plan, enqueues the model and the sampling, and
// hands back the results. Decode steps may be recordings, see DecodeGraphs. Engine thread; one step
// at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/model.h"
#include "engine/ops/ops.h"
#include "engine/run/decode_graphs.h"
#include "engine/sched/batch_plan.h"
#include "engine/sched/prefetch.h"
#include "memory/base/status.h"
#include "memory/device/device.h"

namespace engram::engine {

struct RunnerLimits {
  int64_t max_num_batched_tokens = 0;
  int64_t max_num_seqs = 0;
  int64_t max_pages = 0;   // of one sequence
  int64_t logit_rows = 0;  // of one slice, see ModelLimits
};

class Runner {
 public:
  // Everything referred to outlives the runner. RESOURCE_EXHAUSTED without device memory.
  static memory::Result<std::unique_ptr<Runner>> make(
      memory::Device& device,
      memory::Stream& compute,
      Ops& ops,
      Model& model,
      int engram_layers,
      const RunnerLimits& limits);

  // Decode steps are recorded from now on, those with or without n-gram rows at once, as
  // DecodeGraphs says. `staged` is Prefetch::standing_rows(), `step_rows` what decodes are left to
  // or null, `scratch_slot` a slot of the cache that no sequence is given. Once, before the first
  // step. RESOURCE_EXHAUSTED without device memory. REQUIRES: a device that records.
  memory::Status record_decodes(
      std::vector<StagedRows> staged, StepRows* step_rows, int32_t scratch_slot, bool with_rows);

  // Enqueues the step and returns where its results will be: there when finish() returns, and until
  // the start after the next. The plan and what the rows refer to stay as they are until finish().
  //   row_slots  [T] staging slots, or none
  //   windows    Prefetch::windows(); none, if decodes are not recorded
  //   rows       one per entry of plan.logit_tokens
  std::span<const SampleResult> start(
      const BatchPlan& plan,
      std::span<const int32_t> row_slots,
      std::span<const int32_t> windows,
      std::vector<Ticket> tickets,
      std::span<const SampleRow> rows);
  // Waits for the step; one result per row, as start() says.
  std::span<const SampleResult> finish();

  // After finish(): gates of an Engram layer, [T, G] host memory.
  std::span<const float> gates(int engram) const;

  // Steps that were replays of a recording.
  int64_t replays() const { return graphs_ == nullptr ? 0 : graphs_->replays(); }

 private:
  Runner(memory::Device& device, memory::Stream& compute, Ops& ops, Model& model);
  const int32_t* put(std::span<const int32_t> values);
  Batch upload(const BatchPlan& plan, std::span<const int32_t> row_slots, const int32_t** wanted);
  void sample(bool recorded, std::span<const SampleRow> rows);

  // Constant.
  memory::Device& device_;
  memory::Stream& compute_;
  Ops& ops_;
  Model& model_;
  RunnerLimits limits_;
  memory::Buffer arrays_;                 // the integers of one step
  std::unique_ptr<DecodeGraphs> graphs_;  // null: every step is enqueued op by op

  // Engine thread; read and written by the stream while a step runs. Pinned: a copy from or to
  // other memory would hold the thread up until the stream came there.
  memory::Buffer host_arrays_;
  std::vector<memory::Buffer> gates_;  // per Engram layer
  std::vector<SampleResult> results_;
  std::vector<SampleResult> results_before_;
  std::unique_ptr<memory::Event> done_;
  size_t used_ = 0;  // of host_arrays_
};

}  // namespace engram::engine

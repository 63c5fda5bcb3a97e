// Runs one planned step on the device: uploads the plan, enqueues the model and the sampling, and
// hands back the results. Decode steps may be recordings, see DecodeGraphs. Engine thread; one step
// at a time, or two where the second was planned ahead of the first one's results.
#pragma once

#include <array>
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

  // Whether decode steps that are ahead of the one being run may be started.
  bool may_run_ahead() const { return graphs_ != nullptr && ops_.copies_rows(); }

  // Enqueues the step and returns where its results will be: there when finish() returns, and until
  // the start after the next. The plan and what the rows refer to stay as they are until finish(),
  // but for those of a step ahead, whose end is the return of this call.
  // REQUIRES: no step is being run, or one, and the plan is ahead of it and may_run_ahead().
  //   row_slots  [T] staging slots, or none
  //   windows    Prefetch::windows(); none, if decodes are not recorded
  //   rows       one per entry of plan.logit_tokens
  std::span<const SampleResult> start(
      const BatchPlan& plan,
      std::span<const int32_t> row_slots,
      std::span<const int32_t> windows,
      std::vector<Ticket> tickets,
      std::span<const SampleRow> rows);
  // Waits for the oldest step being run; one result per row, as start() says.
  std::span<const SampleResult> finish();

  // Of the step finished last: gates of an Engram layer, [T, G] host memory.
  std::span<const float> gates(int engram) const;

  // Steps that were replays of a recording.
  int64_t replays() const { return graphs_ == nullptr ? 0 : graphs_->replays(); }

 private:
  // What a step leaves behind; two steps may be on the device.
  struct Step {
    std::vector<memory::Buffer> gates;  // per Engram layer
    std::vector<SampleResult> results;
    std::unique_ptr<memory::Event> done;
  };

  Runner(memory::Device& device, memory::Stream& compute, Ops& ops, Model& model);
  const int32_t* put(std::span<const int32_t> values);
  Batch upload(const BatchPlan& plan, std::span<const int32_t> row_slots, const int32_t** wanted);
  void sample(bool recorded, std::span<const SampleRow> rows, std::vector<SampleResult>& results);

  // Constant.
  memory::Device& device_;
  memory::Stream& compute_;
  Ops& ops_;
  Model& model_;
  RunnerLimits limits_;
  memory::Buffer arrays_;                 // the integers of one step
  memory::Buffer sampled_;                // ids that the last step sampled, by row of its logits
  std::unique_ptr<DecodeGraphs> graphs_;  // null: every step is enqueued op by op

  // Engine thread; read and written by the stream while a step runs. Pinned: a copy from or to
  // other memory would hold the thread up until the stream came there.
  memory::Buffer host_arrays_;
  std::array<Step, 2> steps_;  // in turn
  size_t started_ = 0;
  size_t finished_ = 0;
  size_t used_ = 0;  // of host_arrays_
};

}  // namespace engram::engine

// The way of sampling's arguments to the device and of its results back.
//
// Rows are taken in batches that fit the memory set aside at the start. Arguments and results of a
// batch lie in pinned host memory, of which there are several sets: a batch waits for nothing but
// the batch that used its set before. Engine thread.
// Included by .cu files only.
#pragma once

#include <array>
#include <memory>
#include <span>

#include "engine/ops/cuda/sample_rows.cuh"
#include "engine/ops/ops.h"
#include "memory/device/device.h"

namespace engram::engine::cuda {

struct SampleBatch {
  SampleArgs args;
  int64_t longest_list = 0;  // ids of the row that has most in its lists
};

class SampleStaging {
 public:
  // RESOURCE_EXHAUSTED when the device's or pinned host memory cannot be had.
  static memory::Result<std::unique_ptr<SampleStaging>> make(
      memory::Device& device, const OpsLimits& limits);
  ~SampleStaging();

  // The first rows, as many as one batch takes: their arguments are on the way to the device when
  // this returns, and the rows not needed any more. At least one.
  // REQUIRES: a vocabulary within OpsLimits::max_rows and kMaxVocab; a row's prompt and output
  // within OpsLimits::max_context, its banned and biased ids not more than the vocabulary.
  SampleBatch upload(Stream& stream, View logits, std::span<const SampleRow> rows);
  // Behind the batch's kernels: where its results go when they are delivered.
  void expect(Stream& stream, std::span<SampleResult> results);
  // Writes the results of the batches that the stream has passed.
  void deliver_all();

 private:
  struct Slot {
    memory::Buffer inputs;   // RowParams of the batch, then words
    memory::Buffer outputs;  // RowResult [kBatchRows], then keys of the best
    std::unique_ptr<memory::Event> done;
    std::span<SampleResult> expected;  // of the batch; empty: delivered
  };

  SampleStaging(memory::Device& device, const OpsLimits& limits);
  memory::Status allocate();
  SampleArgs args_of(const Slot& slot, View logits, int64_t rows) const;
  void deliver(Slot& slot) const;

  static constexpr int64_t kBatchRows = 256;
  // Of two steps, of up to 768 rows each.
  static constexpr size_t kSlots = 6;

  // Constant.
  memory::Device& device_;
  const int64_t max_vocab_;
  const int64_t max_words_;
  const int64_t max_best_;
  memory::Buffer device_bytes_;

  // Engine thread; a slot is read by the stream until it is done. In the order of the batches the
  // oldest is the one after current_.
  std::array<Slot, kSlots> slots_;
  size_t current_ = 0;
};

}  // namespace engram::engine::cuda

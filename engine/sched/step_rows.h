// N-gram rows that a decode step reads by itself, on a device whose kernels read the tables: the
// last tokens of each sequence are hashed there, and the rows gathered on a stream of their own
// beside the layers that come before. The host takes no part between the tokens and the rows, and
// all addresses stay from step to step, so that the whole step can be recorded (see DecodeGraphs).
//
// Engine thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "engine/model/ngram.h"
#include "engine/sched/gather_choice.h"
#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/device/device.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_hash.h"
#include "memory/table/row_store.h"

namespace engram::engine {

// Where one layer's rows of a step are.
struct StagedRows {
  const memory::Event* ready = nullptr;       // wait for it before reading; null: no need to
  std::atomic<int64_t>* waited_ns = nullptr;  // for Stream::wait
  memory::View rows;                          // [slots, E] act; [T, E] if in_step_order
  bool in_step_order = false;                 // token t's row is row t, not row row_slots[t]
};

class StepRows {
 public:
  // One layer per geometry, each for the rows of max_tokens. No layer is read until use(). Ids of a
  // vocabulary of that size may be sampled. RESOURCE_EXHAUSTED without device memory. Everything
  // referred to outlives the object.
  static memory::Result<std::unique_ptr<StepRows>> make(
      memory::Device& device,
      memory::Stream& stream,
      memory::EnqueueDecode decode,
      std::span<const memory::TableGeometry* const> layers,
      const TokenMap& token_map,
      int64_t vocab_size,
      memory::DType act,
      int64_t max_tokens);

  // From the next enqueue() on the layer's rows are read from there, by the kernels of `choice`;
  // without parts not at all. How long that takes is added to *gather_ns, see
  // Stream::begin_span(). REQUIRES: a geometry that hashes as that of make(); two parts at most;
  // all of it stays until the next call.
  void use(
      size_t layer,
      const memory::TableGeometry& geometry,
      std::span<const memory::PlacedRows> parts,
      const GatherChoice& choice,
      std::atomic<int64_t>* gather_ns);
  // Whether enqueue() can serve so many tokens: every layer has parts, and no layer's rows of so
  // many tokens are better gathered by the host.
  bool serves(int64_t tokens) const;
  // Another number after each use(): recordings of before read from where the rows were.
  uint64_t version() const { return version_; }

  // Enqueues the gathers of all layers beside what is enqueued on `compute` from now on.
  //   windows  [tokens, memory::kWindow], read by the device; see memory/table/row_hash.h
  //   slots    [tokens] 0, 1, ...; read by the device
  // What each layer waits for and reads, valid until the next call. The caller lets `compute` wait
  // for all of them. REQUIRES: serves(tokens), or, of a filled-up batch, the tokens in it.
  std::vector<StagedRows> enqueue(
      memory::Stream& compute, const int32_t* windows, const int32_t* slots, int64_t tokens);

  // What the token map makes of each id of the vocabulary, in device memory.
  const int32_t* canonical() const { return canonical_.as<int32_t>(); }
  int64_t bytes() const;

 private:
  struct Layer {
    memory::DeviceRowHash hash;
    memory::Buffer staging;
    memory::View view;                                // [max_tokens, E]
    const memory::TableGeometry* geometry = nullptr;  // null: nowhere to read from
    memory::RowPlace place;
    memory::RowPlace upper;
    int64_t upper_first = 0;
    GatherChoice choice;
    std::atomic<int64_t>* gather_ns = nullptr;
    std::unique_ptr<memory::Event> gathered;
  };

  StepRows(memory::Device& device, memory::EnqueueDecode decode);
  memory::RowGather gather_of(const Layer& layer, int64_t tokens) const;

  // Constant.
  const memory::EnqueueDecode decode_;
  std::vector<size_t> order_;  // layers in the order in which the model reaches them
  std::unique_ptr<memory::Stream> side_;
  std::unique_ptr<memory::Event> begun_;
  memory::Buffer canonical_;

  std::vector<Layer> layers_;
  uint64_t version_ = 0;
};

}  // namespace engram::engine

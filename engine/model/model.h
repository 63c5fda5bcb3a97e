// The forward pass of one step, as calls of Ops: enqueues and returns. Every buffer is taken at
// start-up and used again by the next step; the caller orders the steps on one stream.
// Engine thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/ops/ops.h"
#include "engine/sched/prefetch.h"
#include "memory/base/status.h"
#include "memory/device/device.h"
#include "memory/kv/kv_cache.h"

namespace engram::engine {

struct ModelLimits {
  int64_t max_tokens = 0;  // T of one step
  int64_t logit_rows = 0;  // of one call of logits()
};

// Pages of the cache a model needs; keys and values are of kv_dtype, see KvLayer.
memory::KvShape kv_shape(
    const ModelConfig& config, int page_tokens, memory::DType act, memory::DType kv_dtype);

class Model {
 public:
  // Everything referred to outlives the model. RESOURCE_EXHAUSTED without memory for activations.
  static memory::Result<std::unique_ptr<Model>> make(
      const ModelConfig& config,
      const Weights& weights,
      const memory::KvCache& cache,
      memory::Device& device,
      Ops& ops,
      const ModelLimits& limits);

  // Runs all layers; keeps the hidden states of the tokens whose logits are wanted.
  //   wanted   [wanted_count] device memory, ascending token indices
  //   tickets  one per Engram layer, or none: the Engram modules are then left out
  void forward(
      Stream& stream,
      const Batch& batch,
      const int32_t* wanted,
      int64_t wanted_count,
      std::vector<Ticket> tickets);

  // Logits of the wanted tokens [first, first + count) of the step enqueued last: [count, V] f32.
  // Valid until the next call. REQUIRES: count <= logit_rows.
  View logits(Stream& stream, int64_t first, int64_t count);

  // Gates of an Engram layer, of the tokens of the step: [T, G] f32 device memory.
  View gates(int engram) const { return gates_[static_cast<size_t>(engram)]; }

  int64_t workspace_bytes() const { return workspace_.bytes(); }

 private:
  Model(
      const ModelConfig& config,
      const Weights& weights,
      const memory::KvCache& cache,
      Ops& ops,
      const ModelLimits& limits);

  struct Place;
  int64_t place_buffers(uint8_t* base);
  // pending: what is still to be added to h; empty: nothing.
  void engram_layer(Stream& stream, const Batch& batch, int index, Ticket ticket, View pending);
  void attention(Stream& stream, const Batch& batch, int layer);
  void feed_forward(Stream& stream, const LayerWeights& w, View h, View attn);
  KvLayer kv_layer(int layer) const;

  // Constant.
  const ModelConfig& config_;
  const Weights& weights_;
  const memory::KvCache& cache_;
  Ops& ops_;
  ModelLimits limits_;
  RopeFrequencies rope_;
  View frequencies_;  // of rope_, on the device
  memory::DType act_;
  memory::Buffer workspace_;

  // Views of the workspace with all their rows; a step uses the first ones.
  View h_;                   // [T, D] residual stream
  View normed_;              // [T, D]
  View out_;                 // [T, D] what the last sub-layer adds to the stream
  View qkv_;                 // [T, (Nq + 2 Nk) * Dh]
  View attn_;                // [T, Nq * Dh]
  View gate_up_;             // [T, 2I]
  View inner_;               // [T, I]
  View angles_;              // [T, Dh] f32
  View h_wanted_;            // [T, D]
  View attn_wanted_;         // [T, Nq * Dh]
  View rows_;                // [T, E]
  View key_value_;           // [T, (G+1)*D]
  View update_;              // [T, G*D]
  std::vector<View> gates_;  // per Engram layer [T, G] f32
  View logits_;              // [logit_rows, V] f32
  int64_t wanted_count_ = 0;
};

}  // namespace engram::engine

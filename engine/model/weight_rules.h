// Which tensors a checkpoint of a configuration holds, and where each goes. The rules are data
// (weight_rules.cc): a family adds rows there, not classes. Start-up, one thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/weights.h"

namespace engram::engine {

// One tensor of the checkpoint and its place: rows of a matrix, or elements of an f32 array.
struct WeightPiece {
  std::string name;
  std::vector<int64_t> shape;  // as stored
  int64_t rows = 0;
  int64_t cols = 0;
  bool norm = false;         // scales a normalised vector: about 1
  Matrix* matrix = nullptr;  // its rows [first, first + rows)
  View* vector = nullptr;    // or its elements [first, first + rows * cols)
  int64_t first = 0;
  // Of a matrix: in f8_e4m3 as stored, with the scales in a tensor of this name, or made so while
  // it is loaded.
  std::string scale_name;
  bool quantize = false;

  bool fp8() const { return quantize || !scale_name.empty(); }
  // Of the scales, for blocks of 128 outputs and 128 inputs.
  std::vector<int64_t> scale_shape() const {
    return {(rows + kMaxScaleRows - 1) / kMaxScaleRows, (cols + kScaleCols - 1) / kScaleCols};
  }
};

// Sizes layers, Engram layers and every matrix and view of `weights` (without data; lm_head stays
// empty when tied; dtype and scale_rows of f8_e4m3 matrices are set) and returns the pieces they
// consist of, in the order of memory. Tables, hash constants and the token map are not among them.
// The pieces point into `weights`.
std::vector<WeightPiece> plan_pieces(const ModelConfig& config, Weights* weights);

// Places every matrix and view in one buffer of the device. The dtypes of the matrices must be
// set; `weights->lm_head` becomes the embedding when it is empty.
memory::Status place_weights(
    const std::vector<WeightPiece>& pieces, memory::Device& device, Ops& ops, Weights* weights);

// Copies values[i] to the place of pieces[i]: of an f8_e4m3 matrix the scales, by scale_shape(); of
// any other matrix nothing. REQUIRES: placed.
void upload_vectors(
    const std::vector<WeightPiece>& pieces,
    const std::vector<std::vector<float>>& values,
    memory::Device& device);

// True for tensors that published checkpoints hold and that nobody reads: the head of a tied
// model, and rotation frequencies.
bool is_ignored_tensor(const ModelConfig& config, const std::string& name);

}  // namespace engram::engine

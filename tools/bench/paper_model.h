// The models of the paper's measurement, whole or scaled down, and the memory they need. Arithmetic
// and one small file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model/config.h"
#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/table/geometry.h"

namespace engram::tools::bench {

// Table 4 of "Conditional Memory via Scalable Lookup" (arXiv 2601.07372), section 6.4: tokens per
// second on an H800, without and with a layer of 100B parameters in host memory.
struct PaperFigures {
  const char* model;      // "dense 4B"
  const char* directory;  // the name of the configuration that stands for it
  double without = 0;
  double with = 0;
  double loss_percent() const { return 100 * (1 - with / without); }
};
inline constexpr PaperFigures kPaperFigures[] = {
    {"dense 4B", "paper-4b", 9031.62, 8858.28}, {"dense 8B", "paper-8b", 6315.52, 6140.02}};
// Null for a model that the paper did not measure.
const PaperFigures* find_paper_figures(const std::string& directory);

inline constexpr int64_t kPaperTableParameters = 100'000'000'000;
inline constexpr int kPaperSequences = 512;

// 1: the whole. In (0, 1].
struct PaperScale {
  double layers = 1;  // of the model's, at least two: the n-gram layer is the second
  double width = 1;   // hidden and feed-forward size, and heads in their groups
};

// The text of config.json with other layers, widths and table. INVALID_ARGUMENT names file and
// field when it cannot be read.
memory::Result<std::string> scale_config(
    const std::string& json,
    const std::string& file,
    const PaperScale& scale,
    int64_t table_parameters);

// Of a parameter of its table, scales included. INVALID_ARGUMENT when rows cannot have the codec.
memory::Result<double> table_parameter_bytes(
    const engine::ModelConfig& config, memory::RowCodec codec);

// What a run of one model takes.
struct PaperNeeds {
  int64_t weights = 0;
  int64_t tables = 0;
  int64_t cache = 0;
  int64_t other = 0;

  int64_t total() const { return weights + tables + cache + other; }
};
struct PaperSize {
  int64_t table_parameters = 0;
  int64_t sequences = 0;  // in one step
  int64_t longest = 0;    // tokens of a sequence
  memory::DType activations = memory::DType::kF32;
  memory::DType cache = memory::DType::kF32;  // keys and values
  memory::RowCodec codec = memory::RowCodec::kBf16;
};
// Rows can have the codec.
PaperNeeds paper_needs(const engine::ModelConfig& config, const PaperSize& size);

// "36 layers -> 4, hidden size 2560 -> 256, ..."; empty: nothing was scaled.
std::string describe_scaling(
    const engine::ModelConfig& whole, const engine::ModelConfig& scaled, int64_t table_parameters);

}  // namespace engram::tools::bench

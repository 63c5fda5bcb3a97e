#include <string>

#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/suite.h"

namespace engram::bench::gpu {
namespace {

struct Layer {
  const char* name;
  int64_t rows;  // N
  int64_t cols;  // K
  const char* prediction = "";
};
constexpr Layer kLayers4B[] = {
    {"4B qkv", 6144, 2560},
    {"4B output", 2560, 4096},
    {"4B gate-up", 19456, 2560},
    {"4B down", 2560, 9728},
    {"4B logits", 151'936, 2560},
    {"4B Engram key-value", 5120, 1280, "3.0 us (13 MB at 4.3 TB/s) for 64 tokens or less"}};
constexpr Layer kLayers8B[] = {
    {"8B qkv", 6144, 4096},
    {"8B output", 4096, 4096},
    {"8B gate-up", 24576, 4096},
    {"8B down", 4096, 12288},
    {"8B logits", 151'936, 4096},
    {"8B Engram key-value", 8192, 1280, "4.9 us (21 MB at 4.3 TB/s) for 64 tokens or less"}};
constexpr Layer kSmokeLayers[] = {{"tiny", 64, 128}};

void add(Suite& suite, Rig& rig, const Layer& layer, const engine::Matrix& w, int64_t tokens) {
  const View x = rig.random(DType::kBf16, tokens, layer.cols, 1.f);
  const View y = rig.random(DType::kBf16, tokens, layer.rows, 1.f);
  const int64_t bytes = 2 * (layer.rows * layer.cols + tokens * (layer.rows + layer.cols));
  // Which of the roofs bounds the layer: that of memory for the few tokens of the own kernels.
  const Limit limit = tokens <= 8 ? Limit::kRead : tokens <= 1024 ? Limit::kRoof : Limit::kMultiply;
  suite.add(
      {.name = std::string(layer.name) + ", M=" + std::to_string(tokens),
       .bytes = bytes,
       .flops = 2 * tokens * layer.rows * layer.cols,
       .limit = limit,
       .prediction = tokens <= 64 ? layer.prediction : "",
       .enqueue = [=, &rig](int) { rig.ops().linear(rig.stream(), x, w, View(), y); }});
}

template <size_t kCount>
void run_layers(
    const Layer (&layers)[kCount],
    Figures& figures,
    const Options& options,
    const std::vector<int64_t>& tokens) {
  Rig rig({.max_tokens = 8192, .max_cols = 12288, .max_rows = 151'936, .max_context = 8192});
  Suite suite(rig, figures, options, "linear", {Limit::kRead, Limit::kMultiply});
  for (const Layer& layer : layers) {
    const engine::Matrix w = rig.weight(layer.rows, layer.cols);
    for (const int64_t m : tokens) {
      // A step computes the logits of its last tokens only.
      if (layer.rows > 100'000 && m > 512) continue;
      add(suite, rig, layer, w, m);
    }
  }
  suite.run();
}

}  // namespace

void run_linear(Figures& figures, const Options& options) {
  if (options.smoke) return run_layers(kSmokeLayers, figures, options, {1, 8, 16});
  const std::vector<int64_t> tokens = {1, 2, 4, 8, 16, 64, 128, 256, 512, 8192};
  run_layers(kLayers4B, figures, options, tokens);
  run_layers(kLayers8B, figures, options, tokens);
}

void run_limits(Figures& figures, const Options& options) {
  Rig rig({.max_tokens = 8192, .max_cols = 8192, .max_rows = 8192, .max_context = 1024});
  Suite suite(
      rig, figures, options, "limits",
      {Limit::kRead, Limit::kCopy, Limit::kUpload, Limit::kDownload, Limit::kHostRead,
       Limit::kMultiply});
  suite.tell_limits();
  suite.add(
      {.name = "nothing between two events",
       .note = "the least that any time here can be",
       .enqueue = [](int) {}});
  suite.run();
}

}  // namespace engram::bench::gpu

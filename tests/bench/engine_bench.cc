// Whole models through the engine, weights made up: decode at batch 1 and 8, prefill, and what the
// Engram module costs: the same requests with rows prefetched, fetched in the step's own stream,
// and with the module left out, in turns; its parts beside it.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/ops/ops.h"
#include "engine/run/engine.h"
#include "tests/bench/bench.h"
#include "tests/bench/engine_rig.h"
#include "tests/bench/model_costs.h"

namespace engram::bench {
namespace {

using engine::Engine;
using engine::EngineOptions;
using engine::EngineStats;
using engine::Matrix;
using engine::ModelConfig;
using engine::Ops;
using memory::DType;
using memory::make_view;
using memory::View;

struct Sizes {
  int64_t decode_tokens = 24;
  int64_t prompt_tokens = 512;
  int batch = 8;
};
constexpr Sizes kSmoke{.decode_tokens = 3, .prompt_tokens = 16, .batch = 2};

constexpr const char* kFp8 = "-fp8";  // ends the name of a model whose weights are quantised

std::unique_ptr<Engine> start(
    const std::string& name, const std::string& directory, const std::string& fetch, int threads) {
  EngineOptions o = dummy_engine(directory, threads);
  o.ngram_fetch = fetch;
  if (name.find(kFp8) != std::string::npos) o.quantization = "fp8";
  return start_engine(o);
}

std::string case_name(const std::string& model, const std::string& fetch, const char* what) {
  return model + " " + fetch + ", " + what;
}

class EngineBench {
 public:
  EngineBench(Suite& suite, const Sizes& sizes) : suite_(suite), sizes_(sizes) {}

  // Cases of a model under one way to fetch rows.
  void add_model(const std::string& name, const std::string& directory, const std::string& fetch) {
    if (!wanted(name)) return;
    std::unique_ptr<Engine>& engine = engines_[case_name(name, fetch, "")];
    engine = start(name, directory, fetch, suite_.workers().threads());
    const ModelConfig& c = engine->info().config;
    const bool engram = !c.engram.layer_ids.empty() && fetch != "skip";
    Engine* e = engine.get();
    const int64_t tokens = sizes_.decode_tokens;
    for (const int batch : {1, sizes_.batch}) {
      suite_.add(
          {.name = case_name(name, fetch, batch == 1 ? "decode, batch 1" : "decode, batch n"),
           .bytes = tokens * step_bytes(c, engram),
           .repeats = tokens,
           .peak = Peak::kRead,
           .run = [e, batch, tokens] { serve(*e, plain_prompts(batch, 1), tokens); }});
    }
    suite_.add(
        {.name = case_name(name, fetch, "prefill"),
         .flops = prefill_flops(c, sizes_.prompt_tokens, engram),
         .peak = Peak::kFma,
         .run = [this, e] { serve(*e, plain_prompts(1, sizes_.prompt_tokens), 1); }});
  }

  void add_parts(const std::string& name);

  // --filter takes a model's name, whole or in part; other models are not even loaded.
  bool wanted(const std::string& name) const {
    return name.find(suite_.options().filter) != std::string::npos;
  }

  // Figures that relate cases; after Suite::run().
  void report_batch(const std::string& name, const std::string& fetch) const {
    const double one = suite_.median_us(case_name(name, fetch, "decode, batch 1"));
    const double many = suite_.median_us(case_name(name, fetch, "decode, batch n"));
    if (one == 0 || many == 0) return;
    std::printf(
        "%s %s: batch 1 %.1f tokens/s, batch %d %.1f tokens/s, %.2f times\n", name.c_str(),
        fetch.c_str(), 1e6 / one, sizes_.batch, 1e6 * sizes_.batch / many,
        sizes_.batch * one / many);
  }

  void report_engram(const std::string& name) {
    for (const char* what : {"decode, batch 1", "decode, batch n", "prefill"}) {
      const double skip = suite_.median_us(case_name(name, "skip", what));
      for (const char* fetch : {"prefetch", "sync"}) {
        const double with = suite_.median_us(case_name(name, fetch, what));
        if (with == 0 || skip == 0) continue;
        std::printf(
            "%s, %s: %s over skip %.4f of the tokens/s (%+.1f us a step)\n", name.c_str(), what,
            fetch, skip / with, with - skip);
      }
    }
    for (const char* fetch : {"prefetch", "sync"}) {
      const auto found = engines_.find(case_name(name, fetch, ""));
      if (found == engines_.end()) continue;
      const EngineStats stats = found->second->stats();
      double seconds = 0;
      for (const double s : stats.recent_step_seconds) seconds += s;
      double waited = 0;
      for (const double s : stats.recent_exposed_wait_seconds) waited += s;
      int64_t gather_ns = 0;
      for (const EngineStats::Layer& layer : stats.layers) gather_ns += layer.gather_ns.value_or(0);
      const double steps = static_cast<double>(stats.steps);
      std::printf(
          "%s %s: exposed wait %.5f of the step time; a step: wait %.2f us, gather %.2f us, hash "
          "%.2f us\n",
          name.c_str(), fetch, seconds > 0 ? waited / seconds : 0., waited / steps * 1e6,
          static_cast<double>(gather_ns) / steps * 1e-3,
          static_cast<double>(stats.hash_ns) / steps * 1e-3);
    }
  }

 private:
  Suite& suite_;
  Sizes sizes_;
  std::map<std::string, std::unique_ptr<Engine>> engines_;
  std::unique_ptr<memory::Device> device_;
  std::unique_ptr<memory::Stream> stream_;
  std::unique_ptr<Ops> ops_;
  std::vector<memory::Buffer> buffers_;
};

// The module's ops of one decode step, alone: all Engram layers' projections, gates, convolutions.
void EngineBench::add_parts(const std::string& name) {
  if (!wanted(name)) return;
  const ModelConfig& c = engines_.at(case_name(name, "prefetch", ""))->info().config;
  const int64_t width = c.hidden_size;
  const int64_t vector = c.engram.vector_width();
  const int64_t layers = static_cast<int64_t>(c.engram.layer_ids.size());
  if (device_ == nullptr) {
    device_ = memory::make_cpu_device(suite_.workers().threads());
    stream_ = device_->make_stream("parts");
    ops_ = engine::make_cpu_ops(
               *device_, {.max_tokens = 1, .max_cols = 4096, .max_rows = 4096, .max_context = 1024})
               .value();
  }
  const auto floats = [&](int64_t rows, int64_t cols) {
    buffers_.push_back(allocate("part", 4 * rows * cols));
    return make_view(buffers_.back().data(), DType::kF32, rows, cols);
  };
  std::vector<Matrix> projections;
  for (int64_t i = 0; i < layers; ++i) {
    buffers_.push_back(allocate("part", ops_->matrix_bytes(DType::kBf16, 2 * width, vector)));
    projections.push_back({buffers_.back().data(), 2 * width, vector, DType::kBf16});
  }
  const View rows = floats(1, vector);
  const View key_value = floats(1, 2 * width);
  suite_.add(
      {.name = name + " parts, key and value projections",
       .bytes = 2 * engram_weights(c),
       .peak = Peak::kRead,
       .run = [=, this] {
         for (const Matrix& w : projections) ops_->linear(*stream_, rows, w, View(), key_value);
         stream_->synchronize();
       }});
  const View h = floats(1, width);
  const View u = floats(1, width);
  const View norm = floats(1, width);
  const View gates = floats(1, 1);
  const View conv = floats(width, c.engram.kernel_size);
  buffers_.push_back(allocate("part", 16 * 4 * width + 4096));
  const engine::ConvLayer layer{
      .inputs = buffers_.back().data(), .dtype = DType::kF32, .page_tokens = 16, .width = width};
  // One token at position 15 of the only page.
  buffers_.push_back(allocate("part", 64));
  int32_t* numbers = buffers_.back().as<int32_t>();
  const int32_t values[] = {0, 15, 15, 0, 0, 0, 1, 0};
  std::copy(std::begin(values), std::end(values), numbers);
  engine::Batch batch;
  batch.tokens = batch.sequences = batch.max_pages = 1;
  batch.ids = numbers;
  batch.positions = numbers + 1;
  batch.slots = numbers + 2;
  batch.row_slots = numbers + 3;
  batch.sequence_of = numbers + 4;
  batch.token_begin = numbers + 5;
  batch.page_table = numbers + 7;
  const int dilation = c.engram.conv_dilation;
  suite_.add({.name = name + " parts, gate and convolution", .run = [=, this] {
                for (int64_t i = 0; i < layers; ++i) {
                  ops_->engram_gate(
                      *stream_, key_value.col_range(0, width), key_value.col_range(width, width), h,
                      View(), norm, norm, 1e-6f, gates, u);
                  ops_->short_conv(*stream_, batch, u, norm, 1e-5f, conv, dilation, layer, h);
                }
                stream_->synchronize();
              }});
}

int run(int argc, char** argv) {
  const Options options = parse_options(argc, argv);
  Suite suite(options);
  EngineBench bench(suite, options.smoke ? kSmoke : Sizes{});
  const std::string demo = "configs/demo";
  const std::vector<std::string> dense = {"dense-0.5b", std::string("dense-0.5b") + kFp8};
  std::map<std::string, std::string> engram_models = {{"demo", demo}};
  if (!options.smoke) {
    engram_models["engram-0.5b"] = std::string("configs/bench/engram-0.5b");
    for (const std::string& name : dense) {
      bench.add_model(name, "configs/bench/dense-0.5b", "prefetch");
    }
  }
  for (const auto& [name, directory] : engram_models) {
    for (const char* fetch : {"skip", "prefetch", "sync"}) {
      bench.add_model(name, directory, fetch);
    }
    bench.add_parts(name);
  }
  const int status = suite.run();
  for (const std::string& name : dense) bench.report_batch(name, "prefetch");
  for (const auto& [name, directory] : engram_models) {
    bench.report_batch(name, "prefetch");
    bench.report_engram(name);
  }
  return status;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}

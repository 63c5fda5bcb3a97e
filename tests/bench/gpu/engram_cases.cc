#include <array>
#include <string>
#include <utility>

#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/suite.h"

namespace engram::bench::gpu {
namespace {

using engine::SampleResult;
using engine::SampleRow;

constexpr float kEps = 1e-6f;

// A layer's row operations at one width; four or five passes over [tokens, width] each.
void add_rows(Suite& suite, Rig& rig, const std::string& model, int64_t width, int64_t tokens) {
  const std::string suffix = ", " + model + ", T=" + std::to_string(tokens);
  const int64_t row = 2 * tokens * width;
  const View h = rig.random(DType::kBf16, tokens, width, 1.f);
  const View x = rig.random(DType::kBf16, tokens, width, 1e-3f);
  const View y = rig.random(DType::kBf16, tokens, width, 1.f);
  const View weight = rig.random(DType::kF32, 1, width, 1.f);
  const auto add = [&](const std::string& name, int64_t bytes, const char* prediction,
                       const std::function<void()>& enqueue) {
    suite.add(
        {.name = name + suffix,
         .bytes = bytes,
         .limit = Limit::kRead,
         .prediction = prediction,
         .enqueue = [enqueue](int) { enqueue(); }});
  };
  const char* small = tokens <= 64 ? "about 1 us of a step with graphs" : "";
  add("add and norm", 4 * row, small,
      [=, &rig] { rig.ops().add_rms_norm(rig.stream(), h, x, weight, kEps, y); });
  const View key_value = rig.random(DType::kBf16, tokens, 2 * width, 1.f);
  const View gates = rig.random(DType::kF32, tokens, 1, 1.f);
  add("Engram gate", 5 * row, small, [=, &rig] {
    rig.ops().engram_gate(
        rig.stream(), key_value.col_range(0, width), key_value.col_range(width, width), h, View(),
        weight, weight, kEps, gates, y);
  });
  const engine::Batch batch = rig.batch(1, 0, tokens);
  const int64_t pages = (tokens + kPageTokens - 1) / kPageTokens;
  const View inputs = rig.random(DType::kBf16, pages * kPageTokens, width, 1.f);
  const View taps = rig.random(DType::kF32, width, 4, 0.01f);
  const engine::ConvLayer layer{
      .inputs = inputs.data, .dtype = DType::kBf16, .page_tokens = kPageTokens, .width = width};
  add("Engram convolution", 7 * row, small,
      [=, &rig] { rig.ops().short_conv(rig.stream(), batch, x, weight, kEps, taps, 3, layer, h); });
}

}  // namespace

void run_engram(Figures& figures, const Options& options) {
  Rig rig({.max_tokens = 8192, .max_cols = 12288, .max_rows = 24576, .max_context = 8192});
  Suite suite(rig, figures, options, "engram", {Limit::kRead});
  if (options.smoke) {
    add_rows(suite, rig, "tiny", 64, 5);
  } else {
    for (const int64_t tokens : {1, 64, 512, 8192}) {
      add_rows(suite, rig, "4B", 2560, tokens);
      add_rows(suite, rig, "8B", 4096, tokens);
    }
  }
  suite.run();
}

void run_sampling(Figures& figures, const Options& options) {
  const int64_t vocab = options.smoke ? 1000 : 151'936;
  Rig rig({.max_tokens = 64, .max_cols = 1024, .max_rows = vocab, .max_context = 4096});
  Suite suite(rig, figures, options, "sampling", {Limit::kRead});
  SampleRow greedy;
  greedy.temperature = 0.f;
  SampleRow top_p;
  top_p.top_p = 0.9f;
  SampleRow top_k = top_p;
  top_k.top_k = 50;
  SampleRow logprobs = greedy;
  logprobs.logprobs = 5;
  const std::array<std::pair<const char*, SampleRow>, 5> kinds = {
      {{"greedy", greedy},
       {"plain", SampleRow()},
       {"top_p 0.9", top_p},
       {"top_k 50, top_p 0.9", top_k},
       {"greedy, 5 log-probabilities", logprobs}}};
  const std::vector<int64_t> counts =
      options.smoke ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 8, 64};
  // Results are written when they are checked.
  std::vector<std::vector<SampleRow>> rows(kinds.size() * counts.size());
  std::vector<std::vector<SampleResult>> results(rows.size());
  size_t at = 0;
  for (const int64_t count : counts) {
    const View logits = rig.random(DType::kF32, count, vocab, 8.f);
    for (const auto& [name, how] : kinds) {
      rows[at].assign(static_cast<size_t>(count), how);
      results[at].resize(static_cast<size_t>(count));
      suite.add(
          {.name = "n=" + std::to_string(count) + " " + name,
           .bytes = 4 * count * vocab,
           .limit = Limit::kRead,
           .enqueue = [&, at, logits](
                          int) { rig.ops().sample(rig.stream(), logits, rows[at], results[at]); },
           .check =
               [&rig, &results, at, vocab] {
                 rig.ops().deliver_samples();
                 for (const SampleResult& r : results[at]) {
                   if (!r.finite || r.id < 0 || r.id >= vocab)
                     return std::string("no id was drawn");
                 }
                 return std::string();
               }});
      ++at;
    }
  }
  suite.run();
}

}  // namespace engram::bench::gpu

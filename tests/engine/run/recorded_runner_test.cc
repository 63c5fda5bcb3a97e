// Recorded steps whose logits are computed in slices behind the recording.
#include <catch2/catch.hpp>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "engine/model/tokenizer.h"
#include "engine/model/weights.h"
#include "engine/run/backend.h"
#include "engine/run/runner.h"
#include "tests/support/checkpoints.h"
#include "tests/support/test_device.h"

namespace engram::engine {
namespace {

constexpr int64_t kSequences = 3;
constexpr int64_t kPageTokens = 16;
constexpr int64_t kPages = 2 * kSequences;  // a page for each sequence of either runner
constexpr int64_t kSlice = 2;

// A model without Engram layers and what it needs.
struct Rig {
  Rig() {
    const std::string directory = tests::checkpoint_directory("tiny-dense");
    config = load_config(directory).value();
    backend = open_backend(tests::kDevice, 1).value();
    compute = backend.device->make_stream("compute");
    const int64_t widest = 4 * (config.hidden_size + config.intermediate_size);
    ops = make_ops(
              backend, {.max_tokens = 8,
                        .max_cols = widest,
                        .max_rows = std::max(widest, config.vocab_size),
                        .max_context = kPageTokens})
              .value();
    const int64_t vocab = load_tokenizer(directory).value()->size();
    weights = load_weights(directory, config, vocab, *backend.device, *ops, {}).value();
    cache =
        memory::KvCache::make(
            *backend.device,
            kv_shape(config, kPageTokens, memory::DType::kBf16, memory::DType::kBf16), kPages + 1)
            .value();
    model = Model::make(
                config, *weights, *cache, *backend.device, *ops,
                {.max_tokens = 8, .logit_rows = kSlice})
                .value();
  }

  std::unique_ptr<Runner> runner() {
    return Runner::make(
               *backend.device, *compute, *ops, *model, 0,
               {.max_num_batched_tokens = 8,
                .max_num_seqs = kSequences,
                .max_pages = 1,
                .logit_rows = kSlice})
        .value();
  }

  ModelConfig config;
  Backend backend;
  std::unique_ptr<memory::Stream> compute;
  std::unique_ptr<Ops> ops;
  std::optional<Weights> weights;
  std::optional<memory::KvCache> cache;
  std::unique_ptr<Model> model;
};

// A token of each sequence at the position; sequence s has the page first_page + s.
BatchPlan decode_step(int32_t position, int32_t first_page) {
  BatchPlan plan;
  plan.max_pages = 1;
  for (int32_t s = 0; s < kSequences; ++s) {
    plan.sequences.push_back(
        {.sequence = static_cast<uint64_t>(s),
         .begin = position,
         .count = 1,
         .token_begin = s,
         .samples = true});
    plan.ids.push_back(7 + 31 * position + 5 * s);
    plan.positions.push_back(position);
    plan.slots.push_back((first_page + s) * static_cast<int32_t>(kPageTokens) + position);
    plan.sequence_of.push_back(s);
    plan.token_begin.push_back(s);
    plan.page_table.push_back(first_page + s);
    plan.logit_tokens.push_back(s);
  }
  plan.token_begin.push_back(static_cast<int32_t>(kSequences));
  return plan;
}

std::vector<SampleResult> run(Runner& runner, const BatchPlan& plan) {
  SampleRow greedy;
  greedy.temperature = 0.f;
  greedy.logprobs = 3;
  const std::vector<SampleRow> rows(kSequences, greedy);
  runner.start(plan, {}, {}, {}, rows);
  const std::span<const SampleResult> results = runner.finish();
  return {results.begin(), results.end()};
}

}  // namespace

TEST_CASE("a recorded step in more than one slice of logits", "[runner]") {
  Rig rig;
  const std::unique_ptr<Runner> plain = rig.runner();
  const std::unique_ptr<Runner> recorded = rig.runner();
  const int32_t scratch = static_cast<int32_t>(kPages * kPageTokens);
  REQUIRE(recorded->record_decodes({}, nullptr, scratch, false).ok());
  for (int32_t position = 0; position < 5; ++position) {
    CAPTURE(position);
    const std::vector<SampleResult> expected = run(*plain, decode_step(position, 0));
    const std::vector<SampleResult> got = run(*recorded, decode_step(position, kSequences));
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i].finite);
      CHECK(got[i].id == expected[i].id);
      CHECK(got[i].logprob == expected[i].logprob);
      REQUIRE(got[i].top.size() == 3);
      CHECK(got[i].top[2].id == expected[i].top[2].id);
      CHECK(got[i].top[2].logprob == expected[i].top[2].logprob);
    }
    CHECK(got[0].top[0].logprob != got[2].top[0].logprob);
  }
  CHECK(recorded->replays() == 5);
  CHECK(plain->replays() == 0);
}

}  // namespace engram::engine

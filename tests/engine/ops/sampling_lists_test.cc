// What sampling says beside the id: log-probabilities, ranks and lists of the best.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "tests/support/sampling_rig.h"

namespace engram::testing {
namespace {

using engine::SampleResult;
using engine::SampleRow;

constexpr uint64_t kSeed = kSamplingSeed;

TEST_CASE("log-probabilities, ranks and best lists are those of the raw logits", "[sampling]") {
  std::mt19937_64 random(kSeed);
  OpRig rig({"cpu", 3}, kMaxVocab);
  for (const int64_t vocab : {1, 5, 64, 1001, 151'936}) {
    const Rows logits = random_rows(random, DType::kF32, 1, vocab, 4.0);
    std::vector<size_t> order(static_cast<size_t>(vocab));
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return logits.values[a] > logits.values[b];
    });
    double sum = 0.0;
    for (const double x : logits.values) sum += std::exp(x - logits.values[order[0]]);
    const auto logprob = [&](size_t id) {
      return logits.values[id] - logits.values[order[0]] - std::log(sum);
    };
    const std::vector<std::pair<int32_t, float>> bias = {{0, 30.f}};
    for (const bool drawn : {true, false}) {
      CAPTURE(vocab, drawn);
      SampleRow row;
      row.sample = drawn;
      row.logprobs = 20;
      row.temperature = 0.f;  // neither bias nor temperature may show in the numbers
      row.logit_bias = bias;
      row.target = static_cast<int32_t>(vocab / 2);
      const SampleResult got = sample_one(rig, logits, row);
      REQUIRE(got.finite);
      CHECK(got.id == (drawn ? 0 : -1));
      const size_t id = drawn ? 0 : static_cast<size_t>(vocab / 2);
      CHECK(got.logprob == Approx(logprob(id)).margin(1e-5));
      const auto place = std::find(order.begin(), order.end(), id) - order.begin();
      CHECK(got.rank == place + 1);
      REQUIRE(std::ssize(got.top) == std::min<int64_t>(20, vocab));
      for (size_t i = 0; i < got.top.size(); ++i) {
        CHECK(got.top[i].id == static_cast<int32_t>(order[i]));
        CHECK(got.top[i].logprob == Approx(logprob(order[i])).margin(1e-5));
      }
    }
  }
}

TEST_CASE("equal logits share a rank and are listed by id", "[sampling]") {
  OpRig rig({"cpu", 1}, 100);
  Rows logits(1, 100);
  logits.at(0, 60) = logits.at(0, 7) = 2.0;
  logits.at(0, 99) = -kInf;
  SampleRow row;
  row.sample = false;
  row.logprobs = 100;
  row.target = 60;
  const SampleResult got = sample_one(rig, logits, row);
  CHECK(got.rank == 1);
  REQUIRE(got.top.size() == 100);
  CHECK(got.top[0].id == 7);
  CHECK(got.top[1].id == 60);
  CHECK(got.top[2].id == 0);
  CHECK(got.top[99].id == 99);
  CHECK(got.top[99].logprob == -std::numeric_limits<float>::infinity());
  row.target = 0;
  CHECK(sample_one(rig, logits, row).rank == 3);
}

TEST_CASE("a list of the best goes on with ids that cannot be drawn", "[sampling]") {
  constexpr int64_t kVocab = 5003;
  OpRig rig({"cpu", 1}, kVocab);
  Rows logits(1, kVocab);
  for (double& x : logits.values) x = -kInf;
  for (const int64_t id : {4000, 1, 5002}) logits.at(0, id) = 1.0 + static_cast<double>(id % 2);
  for (const int32_t k : {4, 50, 5003, 9000}) {
    CAPTURE(k);
    SampleRow row = greedy();
    row.logprobs = k;
    const SampleResult got = sample_one(rig, logits, row);
    CHECK(got.id == 1);
    REQUIRE(std::ssize(got.top) == std::min<int64_t>(k, kVocab));
    CHECK(got.top[0].id == 1);
    CHECK(got.top[1].id == 4000);
    CHECK(got.top[2].id == 5002);
    CHECK(got.top[3].id == 0);
    CHECK(got.top[3].logprob == -std::numeric_limits<float>::infinity());
    CHECK(got.top.back().id == (k == 4 ? 0 : k == 50 ? 47 : 5001));
  }
}

TEST_CASE("many rows with long lists are sampled as each alone", "[sampling]") {
  std::mt19937_64 random(kSeed);
  constexpr int64_t kRows = 601;
  constexpr int64_t kVocab = 45;
  OpRig rig({"cpu", 2}, kVocab);
  const Rows logits = random_rows(random, DType::kF32, kRows, kVocab, 2.0);
  std::vector<int32_t> prompt(7000);
  for (int32_t& id : prompt) id = static_cast<int32_t>(random() % kVocab);
  std::vector<SampleRow> rows(kRows);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].draw_index = i;
    rows[i].logprobs = static_cast<int32_t>(i % 60) - 1;
    rows[i].top_k = static_cast<int32_t>(i % 9);
    if (i % 3 != 0) continue;
    rows[i].repetition_penalty = 1.5f;
    rows[i].prompt_ids = std::span(prompt).first(7000 - i);
  }
  const std::vector<SampleResult> together = sample(rig, logits, rows);
  for (size_t i = 0; i < rows.size(); i += 5) {
    CAPTURE(i);
    const SampleResult alone =
        sample_one(rig, logits.row_range(static_cast<int64_t>(i), 1), rows[i]);
    CHECK(alone.id == together[i].id);
    CHECK(alone.rank == together[i].rank);
    CHECK(alone.logprob == together[i].logprob);
    CHECK(alone.top.size() == together[i].top.size());
  }
}
}  // namespace
}  // namespace engram::testing

// Where the filters of sampling cut: top_k among equal logits, top_p at its share, either in a flat
// vocabulary and at a tiny temperature.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "tests/support/sampling_rig.h"

namespace engram::testing {
namespace {

using engine::SampleResult;
using engine::SampleRow;

constexpr uint64_t kSeed = kSamplingSeed;

TEST_CASE("a flat vocabulary and a tiny temperature go through every reach", "[sampling]") {
  OpRig rig({"cpu", 1}, kMaxVocab);
  constexpr int64_t kVocab = 151'936;
  Rows flat(1, kVocab);
  SampleRow row;
  row.top_p = 0.5f;
  for (uint64_t i = 0; i < 50; ++i) {
    row.draw_index = i;  // half of equal weights: the lower half of the ids
    CHECK(sample_one(rig, flat, row).id < kVocab / 2);
  }
  row.top_p = 1.f;
  row.top_k = 1;
  CHECK(sample_one(rig, flat, row).id == 0);
  std::mt19937_64 random(kSeed);
  const Rows logits = random_rows(random, DType::kF32, 1, kVocab, 3.0);
  const int32_t best = sample_one(rig, logits, greedy()).id;
  row.temperature = 1e-30f;
  row.top_k = 50;
  CHECK(sample_one(rig, logits, row).id == best);
  row.top_k = 0;
  CHECK(sample_one(rig, logits, row).id == best);
  row.temperature = 1e-42f;  // subnormal
  row.top_p = 0.99999f;
  CHECK(sample_one(rig, logits, row).id == best);
}

TEST_CASE("top_k cuts among equal logits by id", "[sampling]") {
  std::mt19937_64 random(kSeed);
  constexpr int64_t kVocab = 6007;
  OpRig rig({"cpu", 2}, kVocab);
  for (const int values : {1, 2, 5}) {
    Rows logits(1, kVocab);
    for (double& x : logits.values) x = static_cast<double>(random() % static_cast<size_t>(values));
    std::vector<int32_t> order(kVocab);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits.at(0, a) > logits.at(0, b);
    });
    for (const int32_t k : {1, 2, 11, 12, 13, 700, 5000, 6006}) {
      CAPTURE(values, k);
      // Of the last place's equals only those before it may be drawn; the list shows them all.
      SampleRow row;
      row.temperature = 50.f;
      row.top_k = k;
      row.logprobs = k;
      std::vector<SampleRow> rows(8, row);
      for (size_t i = 0; i < rows.size(); ++i) rows[i].draw_index = i;
      Rows repeated(std::ssize(rows), kVocab);
      for (int64_t i = 0; i < repeated.rows; ++i) {
        std::copy_n(logits.values.begin(), kVocab, repeated.values.begin() + i * kVocab);
      }
      const std::set<int32_t> kept(order.begin(), order.begin() + k);
      for (const SampleResult& result : sample(rig, repeated, rows)) {
        CHECK(kept.count(result.id) == 1);
        REQUIRE(std::ssize(result.top) == k);
        bool same = true;
        for (size_t i = 0; i < result.top.size(); ++i) same = same && result.top[i].id == order[i];
        CHECK(same);
      }
    }
  }
}

TEST_CASE("top_p ends where its share is reached, not behind", "[sampling]") {
  OpRig rig({"cpu", 1}, 1000);
  // Four ids of a quarter each, far apart; all others weigh nothing.
  Rows logits(1, 1000);
  for (double& x : logits.values) x = -1000.0;
  for (const int64_t id : {3, 300, 600, 999}) logits.at(0, id) = 2.0;
  const std::vector<std::pair<float, int>> shares = {
      {1e-30f, 1},
      {0.25f, 1},
      {0.2500001f, 2},
      {0.5f, 2},
      {0.75f, 3},
      {0.7501f, 4},
      {std::nextafter(1.f, 0.f), 4},
      {1.f, 4}};
  for (const auto& [share, kept] : shares) {
    for (const int32_t top_k : {0, 700}) {
      CAPTURE(share, kept, top_k);
      std::set<int32_t> seen;
      for (uint64_t i = 0; i < 60; ++i) {
        SampleRow row;
        row.top_p = share;
        row.top_k = top_k;
        row.draw_index = i;
        seen.insert(sample_one(rig, logits, row).id);
      }
      const std::vector<int32_t> all = {3, 300, 600, 999};
      CHECK(seen == std::set<int32_t>(all.begin(), all.begin() + kept));
    }
  }
}

}  // namespace
}  // namespace engram::testing

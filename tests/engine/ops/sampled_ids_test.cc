// Ids that stay on the device between two steps: where sampling leaves them, how the next step
// takes them up, and that the newest of them counts for penalties as if the host knew it.
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <vector>

#include "tests/support/sampling_rig.h"

namespace engram::testing {
namespace {

using engine::SampledFeed;
using engine::SampledIds;
using engine::SampleResult;
using engine::SampleRow;

int32_t* writable(const int32_t* of_rig) {
  return const_cast<int32_t*>(of_rig);
}

std::vector<int32_t> ids_at(OpRig& rig, const int32_t* data, size_t count) {
  const View view = memory::make_view(writable(data), DType::kI32, 1, static_cast<int64_t>(count));
  const std::vector<uint8_t> bytes = rig.bytes(view);
  std::vector<int32_t> ids(count);
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  return ids;
}

}  // namespace

TEST_CASE("sampled ids: every drawn id is left on the device", "[sampling]") {
  // More rows than one batch of the backend takes.
  constexpr size_t kRows = 600;
  constexpr int64_t kVocab = 50;
  std::mt19937_64 random(kSamplingSeed);
  for (const Backend& backend : backends()) {
    CAPTURE(backend.threads, backend.simd);
    OpRig rig(backend, kVocab);
    Rows logits = random_rows(random, DType::kF32, kRows, kVocab, 2.0);
    logits.at(3, 7) = std::nan("");
    std::vector<SampleRow> rows(kRows);
    for (size_t i = 0; i < kRows; ++i) {
      rows[i].seed = i;
      rows[i].sample = i != 5;
    }
    const int32_t* now = rig.put(std::vector<int32_t>(kRows, 1234));
    const std::vector<SampleResult> results =
        sample(rig, rig.put(logits, DType::kF32), rows, {.now = writable(now)});
    const std::vector<int32_t> ids = ids_at(rig, now, kRows);
    for (size_t i = 0; i < kRows; ++i) REQUIRE(ids[i] == results[i].id);
    CHECK(ids[3] == -1);
    CHECK(ids[5] == -1);
  }
}

TEST_CASE("sampled ids: the newest counts for penalties as if the host knew it", "[sampling]") {
  constexpr size_t kRows = 40;
  constexpr int64_t kVocab = 30;
  std::mt19937_64 random(kSamplingSeed);
  for (const Backend& backend : backends()) {
    CAPTURE(backend.threads, backend.simd);
    OpRig rig(backend, kVocab);
    const Rows logits = random_rows(random, DType::kF32, kRows, kVocab, 1.0);
    std::vector<std::vector<int32_t>> generated(kRows);
    std::vector<int32_t> newest;
    std::vector<SampleRow> known(kRows);
    std::vector<SampleRow> unknown(kRows);
    const std::vector<int32_t> banned = {4, 5};
    const std::vector<std::pair<int32_t, float>> bias = {{6, 1.f}};
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t k = 0; k < i % 4; ++k) {
        generated[i].push_back(static_cast<int32_t>(random() % kVocab));
      }
      newest.push_back(static_cast<int32_t>(random() % kVocab));
      SampleRow& row = known[i];
      row.seed = i;
      row.logprobs = 1;
      // Rows without penalties have no list of ids to add it to.
      if (i % 5 != 0) row.presence_penalty = 2.f;
      if (i % 3 == 0) row.repetition_penalty = 1.5f;
      if (i % 7 == 0) row.frequency_penalty = -1.f;
      if (i % 2 == 0) row.banned = banned;
      if (i % 8 == 0) row.logit_bias = bias;
      unknown[i] = row;
      unknown[i].newest_on_device = true;
      unknown[i].generated_ids = generated[i];
    }
    std::vector<std::vector<int32_t>> whole = generated;
    for (size_t i = 0; i < kRows; ++i) {
      whole[i].push_back(newest[i]);
      known[i].generated_ids = whole[i];
    }
    const View view = rig.put(logits, DType::kF32);
    const std::vector<double> before = rig.get(view).values;
    const std::vector<SampleResult> expected = sample(rig, view, known);
    const std::vector<SampleResult> got = sample(rig, view, unknown, {.before = rig.put(newest)});
    CHECK(rig.get(view).values == before);
    for (SampleRow& row : unknown) row.newest_on_device = false;
    const std::vector<SampleResult> without = sample(rig, view, unknown);
    int differences = 0;
    for (size_t i = 0; i < kRows; ++i) {
      CAPTURE(i);
      CHECK(got[i].id == expected[i].id);
      CHECK(got[i].logprob == expected[i].logprob);
      differences += without[i].id != expected[i].id;
    }
    CHECK(differences > 0);
  }
}

TEST_CASE("sampled ids: a step takes up those it is fed from", "[ops]") {
  constexpr int64_t kTokens = 300;
  constexpr int64_t kWindow = 4;
  std::mt19937_64 random(kSamplingSeed);
  std::vector<int32_t> sampled(kTokens);
  std::vector<int32_t> from(kTokens);
  std::vector<int32_t> ids(kTokens);
  std::vector<int32_t> windows(kTokens * kWindow);
  std::vector<int32_t> canonical(97);
  for (int32_t& id : sampled) id = static_cast<int32_t>(random() % 98) - 1;
  for (int32_t& row : from) row = static_cast<int32_t>(random() % (kTokens + 100)) - 100;
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 97);
  for (int32_t& id : windows) id = static_cast<int32_t>(random() % 97);
  for (int32_t& id : canonical) id = static_cast<int32_t>(random() % 1000) - 500;
  std::vector<int32_t> expected_ids = ids;
  std::vector<int32_t> expected_windows = windows;
  for (size_t t = 0; t < static_cast<size_t>(kTokens); ++t) {
    if (from[t] < 0) continue;
    const int32_t id = sampled[static_cast<size_t>(from[t])];
    expected_ids[t] = id < 0 ? 0 : id;
    expected_windows[t * kWindow + kWindow - 1] = canonical[static_cast<size_t>(expected_ids[t])];
  }
  for (const Backend& backend : backends()) {
    for (const bool with_windows : {true, false}) {
      CAPTURE(backend.threads, with_windows);
      OpRig rig(backend);
      const int32_t* device_ids = rig.put(ids);
      const int32_t* device_windows = rig.put(windows);
      SampledFeed feed;
      feed.tokens = kTokens;
      feed.from = rig.put(from);
      feed.sampled = rig.put(sampled);
      feed.ids = writable(device_ids);
      if (with_windows) {
        feed.windows = writable(device_windows);
        feed.canonical = rig.put(canonical);
        feed.window = kWindow;
      }
      rig.ops().feed_sampled(rig.stream(), feed);
      CHECK(ids_at(rig, device_ids, ids.size()) == expected_ids);
      CHECK(
          ids_at(rig, device_windows, windows.size()) ==
          (with_windows ? expected_windows : windows));
    }
  }
}

}  // namespace engram::testing

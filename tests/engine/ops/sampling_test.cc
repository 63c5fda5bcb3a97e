// Sampling: every filter against a float64 oracle that sorts, draws against their distribution.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "engine/ops/cpu/philox.h"
#include "engine/ops/cpu/sampler.h"
#include "tests/support/sampling_rig.h"

namespace engram::testing {
namespace {

using engine::SampleResult;
using engine::SampleRow;

constexpr uint64_t kSeed = kSamplingSeed;

// Probability of each id, in float64, by sorting. Steps and their order are those of SampleRow.
std::vector<double> oracle(std::vector<double> logit, const SampleRow& row) {
  const size_t vocab = logit.size();
  for (const auto& [id, bias] : row.logit_bias) logit[static_cast<size_t>(id)] += bias;
  for (const int32_t id : row.banned) logit[static_cast<size_t>(id)] = -kInf;
  std::map<int32_t, int> generated;
  std::set<int32_t> all(row.prompt_ids.begin(), row.prompt_ids.end());
  for (const int32_t id : row.generated_ids) {
    ++generated[id];
    all.insert(id);
  }
  for (const int32_t id : all) {
    double& x = logit[static_cast<size_t>(id)];
    x = x > 0 ? x / row.repetition_penalty : x * row.repetition_penalty;
  }
  for (const auto& [id, count] : generated) {
    logit[static_cast<size_t>(id)] -= row.presence_penalty + row.frequency_penalty * count;
  }
  const double top = *std::max_element(logit.begin(), logit.end());
  std::vector<double> p(vocab);
  std::vector<size_t> order(vocab);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(
      order.begin(), order.end(), [&](size_t a, size_t b) { return logit[a] > logit[b]; });
  for (size_t i = 0; i < vocab; ++i) p[i] = std::exp((logit[i] - top) / row.temperature);
  for (size_t i = 0; i < vocab; ++i) {
    if (p[i] < row.min_p) p[i] = 0;
  }
  if (row.top_k > 0) {
    for (size_t i = static_cast<size_t>(row.top_k); i < vocab; ++i) p[order[i]] = 0;
  }
  if (row.top_p < 1) {
    const double total = std::accumulate(p.begin(), p.end(), 0.0);
    double before = 0;
    for (size_t i = 0; i < vocab; ++i) {
      const double weight = p[order[i]];
      if (i > 0 && before >= row.top_p * total) p[order[i]] = 0;
      before += weight;
    }
  }
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= total;
  return p;
}

// Upper end of what chi-square gives with that many degrees of freedom once in a million tries
// (Wilson and Hilferty).
double chi_square_limit(double degrees) {
  const double spread = 2.0 / (9.0 * degrees);
  return degrees * std::pow(1.0 - spread + 4.9 * std::sqrt(spread), 3.0);
}

TEST_CASE("philox gives the published numbers", "[sampling]") {
  using engine::cpu::philox4x32;
  using Words = std::array<uint32_t, 4>;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint32_t kOnes = 0xffffffff;
  CHECK(
      philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}) ==
      Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(
      philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
      Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("temperature 0 takes the largest logit, the lowest id among equals", "[sampling]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    OpRig rig(backend, kMaxVocab);
    for (const int64_t vocab : {1, 2, 15, 16, 17, 1000, 151'936}) {
      CAPTURE(backend.threads, backend.simd, vocab);
      Rows logits = random_rows(random, DType::kF32, 3, vocab, 2.0);
      const int64_t low = static_cast<int64_t>(random() % static_cast<uint64_t>(vocab));
      const int64_t high =
          low + static_cast<int64_t>(random() % static_cast<uint64_t>(vocab - low));
      logits.at(0, low) = logits.at(0, high) = 50.0;
      logits.at(1, vocab - 1) = 50.0;
      for (int64_t c = 0; c < vocab; ++c) logits.at(2, c) = -3.0;
      const auto results = sample(rig, logits, {greedy(), greedy(), greedy()});
      CHECK(results[0].id == low);
      CHECK(results[1].id == vocab - 1);
      CHECK(results[2].id == 0);
      CHECK(results[0].finite);
      CHECK(results[0].top.empty());
    }
  }
}

TEST_CASE("the widest vocabulary a config may have is drawn from", "[sampling]") {
  constexpr int64_t kWidest = int64_t{1} << 22;
  OpRig rig(backends().front(), kWidest);
  const View logits = rig.filled(DType::kF32, 2, kWidest, -1.0);
  SampleRow free;
  SampleRow filtered;
  filtered.top_p = 0.25f;
  for (uint64_t draw = 0; draw < 3; ++draw) {
    CAPTURE(draw);
    free.seed = filtered.seed = kSeed;
    free.draw_index = filtered.draw_index = draw;
    const std::vector<SampleResult> results = sample(rig, logits, {free, filtered});
    // All ids are equally likely, and of equals the lower ids come first.
    const double share = engine::cpu::uniform(kSeed, draw);
    CHECK(std::abs(results[0].id - share * kWidest) < 2.0);
    CHECK(std::abs(results[1].id - share * 0.25 * kWidest) < 2.0);
  }
}

TEST_CASE("a row without a usable number is reported and nothing is drawn", "[sampling]") {
  OpRig rig({"cpu", 2}, 100);
  constexpr int64_t kVocab = 37;
  for (const float temperature : {0.f, 1.f}) {
    SampleRow row;
    row.temperature = temperature;
    row.logprobs = 2;
    Rows logits(4, kVocab);
    logits.at(0, 36) = std::nan("");
    logits.at(1, 3) = kInf;
    for (int64_t c = 0; c < kVocab; ++c) logits.at(2, c) = -kInf;
    const auto results = sample(rig, logits, {row, row, row, row});
    for (int i = 0; i < 3; ++i) {
      CAPTURE(i, temperature);
      CHECK_FALSE(results[static_cast<size_t>(i)].finite);
      CHECK(results[static_cast<size_t>(i)].id == -1);
      CHECK(results[static_cast<size_t>(i)].top.empty());
    }
    CHECK(results[3].finite);
    CHECK(results[3].id >= 0);

    std::vector<int32_t> banned(kVocab);
    std::iota(banned.begin(), banned.end(), 0);
    row.banned = banned;
    CHECK_FALSE(sample_one(rig, logits.row_range(3, 1), row).finite);
    banned.erase(banned.begin() + 29);
    row.banned = banned;
    CHECK(sample_one(rig, logits.row_range(3, 1), row).id == 29);

    std::vector<std::pair<int32_t, float>> bias;
    for (int32_t id = 0; id < kVocab; ++id) {
      if (id != 11) bias.emplace_back(id, -std::numeric_limits<float>::infinity());
    }
    row.banned = {};
    row.logit_bias = bias;
    CHECK(sample_one(rig, logits.row_range(3, 1), row).id == 11);
  }
}

// What a random case asks for, and the memory behind its spans.
struct Case {
  SampleRow row;
  std::vector<std::pair<int32_t, float>> bias;
  std::vector<int32_t> banned;
  std::vector<int32_t> prompt;
  std::vector<int32_t> generated;
};

Case random_case(std::mt19937_64& random, int64_t vocab) {
  Case c;
  const auto chance = [&](int one_in) { return random() % static_cast<uint64_t>(one_in) == 0; };
  const auto real = [&](double low, double high) {
    return static_cast<float>(std::uniform_real_distribution<double>(low, high)(random));
  };
  const auto ids = [&](uint64_t most) {
    std::vector<int32_t> list(random() % (most + 1));
    for (int32_t& id : list) id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    return list;
  };
  c.row.temperature = chance(6) ? 0.02f : real(0.3, 3.0);
  if (chance(2)) c.row.top_p = chance(5) ? 1e-6f : real(0.05, 0.999);
  if (chance(2)) c.row.top_k = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab + 3));
  if (chance(3)) c.row.min_p = chance(4) ? 1.f : real(0.001, 0.5);
  if (chance(3)) c.row.repetition_penalty = real(0.5, 2.0);
  if (chance(3)) c.row.presence_penalty = real(-2.0, 2.0);
  if (chance(3)) c.row.frequency_penalty = real(-2.0, 2.0);
  if (chance(3)) {
    for (const int32_t id : ids(5)) c.bias.emplace_back(id, real(-8.0, 8.0));
  }
  if (chance(3)) c.banned = ids(static_cast<uint64_t>(vocab / 2));
  c.prompt = ids(12);
  c.generated = ids(20);
  return c;
}

TEST_CASE("filters and penalties keep what the float64 oracle keeps", "[sampling]") {
  std::mt19937_64 random(kSeed);
  const std::vector<Backend> all = backends();
  std::unique_ptr<OpRig> rig;
  for (int round = 0; round < 150; ++round) {
    const Backend& backend = all[static_cast<size_t>(round) % all.size()];
    if (rig == nullptr || all.size() > 1) rig = std::make_unique<OpRig>(backend, 4000);
    const int64_t vocab = 2 + static_cast<int64_t>(random() % (round % 5 == 0 ? 3000 : 40));
    Case c = random_case(random, vocab);
    c.row.top_k = std::min<int32_t>(c.row.top_k, static_cast<int32_t>(vocab));
    c.row.logit_bias = c.bias;
    c.row.banned = c.banned;
    c.row.prompt_ids = c.prompt;
    c.row.generated_ids = c.generated;
    const Rows logits = random_rows(random, DType::kF32, 1, vocab, 2.5);
    const std::vector<double> p = oracle(logits.values, c.row);
    CAPTURE(backend.simd, round, vocab, c.row.temperature, c.row.top_p, c.row.top_k, c.row.min_p);

    const int draws = repeats(1500, 70);
    std::vector<SampleRow> rows(static_cast<size_t>(draws), c.row);
    Rows repeated(draws, vocab);
    for (int i = 0; i < draws; ++i) {
      rows[static_cast<size_t>(i)].seed = kSeed + static_cast<uint64_t>(round);
      rows[static_cast<size_t>(i)].draw_index = static_cast<uint64_t>(i);
      std::copy_n(logits.values.begin(), vocab, repeated.values.begin() + i * vocab);
    }
    std::vector<int> seen(static_cast<size_t>(vocab));
    for (const SampleResult& result : sample(*rig, repeated, rows)) {
      REQUIRE(result.finite);
      const size_t id = static_cast<size_t>(result.id);
      ++seen[id];
      CAPTURE(result.id);
      REQUIRE(p[id] > 0.0);
    }
    double chi = 0.0;
    double degrees = -1.0;
    double rest_expected = 0.0;
    double rest_seen = 0.0;
    for (size_t id = 0; id < p.size(); ++id) {
      const double expected = p[id] * draws;
      if (expected < 8.0) {
        rest_expected += expected;
        rest_seen += seen[id];
        continue;
      }
      chi += (seen[id] - expected) * (seen[id] - expected) / expected;
      ++degrees;
    }
    if (rest_expected >= 8.0) {
      chi += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
      ++degrees;
    }
    if (degrees >= 1.0) CHECK(chi < chi_square_limit(degrees));
  }
}

TEST_CASE("draws from a wide vocabulary follow its distribution", "[sampling]") {
  OpRig rig({"cpu", 2}, 5000);
  constexpr int64_t kVocab = 5000;
  const int draws = repeats(20'000, 1000);
  // 5000 ids in 10 classes of equal ids: class k has weight proportional to k + 1.
  Rows logits(1, kVocab);
  for (int64_t id = 0; id < kVocab; ++id) {
    logits.at(0, id) = std::log(static_cast<double>(id % 10 + 1));
  }
  const View view = rig.put(logits, DType::kF32);
  std::array<int, 10> seen{};
  std::array<int, 10> thirds{};
  for (int i = 0; i < draws; ++i) {
    const std::vector<SampleRow> rows{[&] {
      SampleRow row;
      row.seed = kSeed;
      row.draw_index = static_cast<uint64_t>(i);
      return row;
    }()};
    const std::vector<SampleResult> results = sample(rig, view, rows);
    ++seen[static_cast<size_t>(results[0].id % 10)];
    ++thirds[static_cast<size_t>(results[0].id / 500)];
  }
  double by_weight = 0.0;
  double by_place = 0.0;
  for (int k = 0; k < 10; ++k) {
    const double expected = draws * (k + 1) / 55.0;
    by_weight += std::pow(seen[static_cast<size_t>(k)] - expected, 2) / expected;
    by_place += std::pow(thirds[static_cast<size_t>(k)] - draws / 10.0, 2) / (draws / 10.0);
  }
  CHECK(by_weight < chi_square_limit(9));
  CHECK(by_place < chi_square_limit(9));
}

TEST_CASE("a draw depends on the row, the seed and the draw index alone", "[sampling]") {
  std::mt19937_64 random(kSeed);
  constexpr int64_t kVocab = 30'000;
  const Rows logits = random_rows(random, DType::kF32, 24, kVocab, 3.0);
  std::vector<SampleRow> rows(24);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].seed = i / 2;
    rows[i].draw_index = 77;
    if (i % 3 == 0) rows[i].top_k = 40;
    if (i % 4 == 0) rows[i].top_p = 0.9f;
    if (i % 5 == 0) rows[i].min_p = 0.02f;
    rows[i].logprobs = 3;
  }
  OpRig one({"cpu", 1}, 30'000);
  OpRig three({"cpu", 3}, 30'000);
  const auto together = sample(three, logits, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    CAPTURE(i);
    const auto alone = sample_one(one, logits.row_range(static_cast<int64_t>(i), 1), rows[i]);
    CHECK(alone.id == together[i].id);
    CHECK(alone.logprob == together[i].logprob);
    CHECK(alone.rank == together[i].rank);
  }
  // Filters that filter nothing change nothing.
  SampleRow plain;
  plain.seed = 9;
  SampleRow idle = plain;
  idle.top_k = kVocab;
  idle.min_p = 1e-30f;
  CHECK(
      sample_one(one, logits.row_range(0, 1), plain).id ==
      sample_one(one, logits.row_range(0, 1), idle).id);
}

TEST_CASE("penalties leave no trace in the next row", "[sampling]") {
  OpRig rig({"cpu", 1}, 50);
  Rows logits(2, 50);
  logits.at(0, 4) = logits.at(1, 4) = 1.0;
  const std::vector<int32_t> generated(200, 4);
  SampleRow first = greedy();
  first.frequency_penalty = 0.1f;
  first.generated_ids = generated;
  SampleRow second = greedy();
  second.presence_penalty = 2.f;
  const auto results = sample(rig, logits, {first, second});
  CHECK(results[0].id == 0);
  CHECK(results[1].id == 4);
}

void point_at_lists(Case& c) {
  c.row.logit_bias = c.bias;
  c.row.banned = c.banned;
  c.row.prompt_ids = c.prompt;
  c.row.generated_ids = c.generated;
}

// Sums of weights are rounded in different ways: a draw, or an end of top_p, that lies between two
// of them may differ. It is met once in a hundred thousand draws.
TEST_CASE("backends draw the same id, and log the same numbers", "[sampling]") {
  std::mt19937_64 random(kSeed);
  OpRig rig({"cpu", 2}, kMaxVocab);
  engine::cpu::Sampler sampler(kMaxVocab);
  int drawn = 0;
  int different = 0;
  for (const int64_t vocab : {31, 511, 512, 513, 4096, 4099, 5000, 33'003, 151'936}) {
    constexpr int kRows = 12;
    Rows logits(kRows, vocab);
    std::vector<Case> cases;
    for (int i = 0; i < kRows; ++i) {
      // Flat rows keep far more ids than peaked ones.
      const Rows row = random_rows(random, DType::kF32, 1, vocab, i % 3 == 0 ? 0.3 : 4.0);
      std::copy(row.values.begin(), row.values.end(), logits.values.begin() + i * vocab);
      cases.push_back(random_case(random, vocab));
      cases.back().row.seed = random();
      cases.back().row.draw_index = random() % 1000;
      cases.back().row.logprobs = static_cast<int32_t>(random() % 25) - 1;
      cases.back().row.sample = i % 4 != 3;
      cases.back().row.target = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    }
    std::vector<SampleRow> rows;
    for (Case& c : cases) {
      point_at_lists(c);
      rows.push_back(c.row);
    }
    const std::vector<SampleResult> results = sample(rig, logits, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      CAPTURE(vocab, i, rows[i].top_k, rows[i].top_p, rows[i].min_p, rows[i].temperature);
      std::vector<float> row(static_cast<size_t>(vocab));
      for (size_t id = 0; id < row.size(); ++id) {
        row[id] = static_cast<float>(logits.at(static_cast<int64_t>(i), static_cast<int64_t>(id)));
      }
      SampleResult wanted;
      sampler.sample(row.data(), vocab, rows[i], wanted);
      REQUIRE(results[i].finite);
      ++drawn;
      different += results[i].id != wanted.id ? 1 : 0;
      if (results[i].id != wanted.id) continue;
      CHECK(results[i].rank == wanted.rank);
      CHECK(results[i].logprob == Approx(wanted.logprob).margin(1e-5));
      REQUIRE(results[i].top.size() == wanted.top.size());
      for (size_t k = 0; k < wanted.top.size(); ++k) {
        CHECK(results[i].top[k].id == wanted.top[k].id);
        CHECK(results[i].top[k].logprob == Approx(wanted.top[k].logprob).margin(1e-5));
      }
    }
  }
  CHECK(drawn == 9 * 12);
  CHECK(different <= 1);
}

TEST_CASE("bias, bans and penalties of one row add up, and the logits stay", "[sampling]") {
  std::mt19937_64 random(kSeed);
  constexpr int64_t kVocab = 1030;
  OpRig rig({"cpu", 2}, kVocab);
  for (int round = 0; round < 20; ++round) {
    CAPTURE(round);
    const Rows logits = random_rows(random, DType::kF32, 1, kVocab, 3.0);
    const auto id = [&] { return static_cast<int32_t>(random() % 60) - 10; };  // some outside
    Case c;
    for (int i = 0; i < 70; ++i) c.bias.emplace_back(id(), static_cast<float>(i % 7) - 2.f);
    for (int i = 0; i < 5; ++i) c.banned.push_back(id());
    for (int i = 0; i < 40; ++i) c.prompt.push_back(id());
    for (int i = 0; i < 900; ++i) c.generated.push_back(id());
    for (const int32_t outside : {-1, 1030, 1 << 30, std::numeric_limits<int32_t>::min()}) {
      c.bias.emplace_back(outside, 99.f);
      c.banned.push_back(outside);
      c.prompt.push_back(outside);
      c.generated.push_back(outside);
    }
    c.row = greedy();
    c.row.repetition_penalty = 1.3f;
    c.row.presence_penalty = -0.7f;
    c.row.frequency_penalty = round % 2 == 0 ? -0.4f : 0.3f;
    c.row.logprobs = 5;
    point_at_lists(c);

    std::vector<float> changed(logits.values.begin(), logits.values.end());
    const auto inside = [](int32_t i) { return i >= 0 && i < kVocab; };
    for (const auto& [i, bias] : c.bias) {
      if (inside(i)) changed[static_cast<size_t>(i)] += bias;
    }
    for (const int32_t i : c.banned) {
      if (inside(i)) changed[static_cast<size_t>(i)] = -std::numeric_limits<float>::infinity();
    }
    std::map<int32_t, int> counts;
    for (const int32_t i : c.prompt) counts[i] += 0;
    for (const int32_t i : c.generated) ++counts[i];
    for (const auto& [i, count] : counts) {
      if (!inside(i)) continue;
      float& x = changed[static_cast<size_t>(i)];
      x = x > 0.f ? x / 1.3f : x * 1.3f;
      if (count > 0) x -= c.row.frequency_penalty * static_cast<float>(count) - 0.7f;
    }
    const auto best = std::max_element(changed.begin(), changed.end()) - changed.begin();

    const View view = rig.put(logits, DType::kF32);
    const std::vector<SampleResult> results = sample(rig, view, {c.row});
    CHECK(rig.get(view).values == logits.values);
    CHECK(results[0].id == best);
    const SampleResult raw = [&] {
      SampleRow row;
      row.sample = false;
      row.target = static_cast<int32_t>(best);
      row.logprobs = 5;
      return sample_one(rig, logits, row);
    }();
    CHECK(results[0].logprob == raw.logprob);
    CHECK(results[0].rank == raw.rank);
    for (size_t i = 0; i < 5; ++i) CHECK(results[0].top[i].id == raw.top[i].id);
  }
}

TEST_CASE("calls in flight do not disturb each other", "[sampling]") {
  std::mt19937_64 random(kSeed);
  constexpr int64_t kVocab = 3000;
  constexpr size_t kCalls = 7;
  OpRig rig({"cpu", 2}, kVocab);
  const std::vector<int32_t> generated = {1, 2, 3, 4, 5};
  std::vector<View> views;
  std::vector<std::vector<SampleRow>> rows;
  for (size_t call = 0; call < kCalls; ++call) {
    const int64_t count = 1 + static_cast<int64_t>(call % 4);
    views.push_back(rig.put(random_rows(random, DType::kF32, count, kVocab, 1.0), DType::kF32));
    rows.emplace_back(static_cast<size_t>(count));
    for (SampleRow& row : rows.back()) {
      row.seed = random();
      row.presence_penalty = call % 2 == 0 ? -3.f : 0.f;
      row.generated_ids = generated;
      row.logprobs = static_cast<int32_t>(call);
    }
  }
  const auto run = [&](bool waits) {
    std::vector<std::vector<SampleResult>> results;
    for (const auto& of_call : rows) results.emplace_back(of_call.size());
    for (size_t call = 0; call < kCalls; ++call) {
      rig.ops().sample(rig.stream(), views[call], rows[call], results[call]);
      if (waits) rig.stream().synchronize();
    }
    rig.stream().synchronize();
    rig.ops().deliver_samples();
    return results;
  };
  const auto one_by_one = run(true);
  const auto at_once = run(false);
  for (size_t call = 0; call < kCalls; ++call) {
    for (size_t i = 0; i < rows[call].size(); ++i) {
      CAPTURE(call, i);
      CHECK(at_once[call][i].id == one_by_one[call][i].id);
      CHECK(at_once[call][i].rank == one_by_one[call][i].rank);
      CHECK(at_once[call][i].logprob == one_by_one[call][i].logprob);
      CHECK(at_once[call][i].top.size() == call);
    }
  }
}

}  // namespace
}  // namespace engram::testing

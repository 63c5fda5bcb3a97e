// Rows that cannot be read: who needs one ends with DATA_LOSS and has been told nothing that was
// computed without it, nobody else notices, and nothing of it stays in the prefix cache.
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/model/hash_constants.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"
#include "tests/support/failing_store.h"

namespace engram::engine {
namespace {

using memory::Code;
using tests::check_idle;
using tests::check_same;
using tests::CollectingSink;
using tests::mixed_requests;
using tests::random_ids;
using tests::RequestResult;
using tests::RowFaults;
using tests::run_alone;
using tests::whole_text;

const std::string kModel = tests::checkpoint_directory("tiny-engram");

EngineOptions failing_engine(const std::shared_ptr<RowFaults>& faults) {
  EngineOptions o = tests::small_engine(kModel);
  o.wrap_table_for_test = [faults](std::unique_ptr<memory::RowStore> table) {
    return std::make_unique<tests::FailingStore>(std::move(table), faults);
  };
  return o;
}

// Rows of each position of a text, layer by layer.
class Rows {
 public:
  explicit Rows(const Engine& engine)
      : hash_(load_hash_only(kModel, engine.tokenizer().size()).value()) {}

  int layer() const { return hash_.geometries.back().layer; }  // the one reached last

  std::vector<std::vector<int64_t>> of(const std::vector<int32_t>& ids) const {
    const memory::TableGeometry& g = hash_.geometries.back();
    std::vector<int32_t> canonical;
    for (const int32_t id : ids) canonical.push_back(hash_.token_map.of(id));
    std::vector<std::vector<int64_t>> rows;
    for (int64_t position = 0; position < static_cast<int64_t>(ids.size()); ++position) {
      std::vector<int64_t>& row = rows.emplace_back(static_cast<size_t>(g.columns()));
      hash_rows(g, canonical, position, position + 1, row.data());
    }
    return rows;
  }

  // A row that the text reads at this position and at no other; -1: there is none.
  int64_t read_only_at(const std::vector<int32_t>& ids, size_t position) const {
    const std::vector<std::vector<int64_t>> rows = of(ids);
    std::map<int64_t, int> reads;
    for (const std::vector<int64_t>& row : rows) {
      for (const int64_t id : row) ++reads[id];
    }
    for (const int64_t row : rows[position]) {
      if (reads.at(row) == 1) return row;
    }
    return -1;
  }

 private:
  HashOnly hash_;
};

// The request ended for want of rows, and what it was told before is the begin of the truth.
void check_lost(const RequestResult& got, const RequestResult& expected) {
  CHECK(got.status.code() == Code::kDataLoss);
  CHECK(got.choices[0].finish.reason == FinishReason::kError);
  tests::check_begins(got, expected);
}

}  // namespace

TEST_CASE("missing rows: a lost row ends who needs it, and the message says which", "[rows]") {
  auto faults = std::make_shared<RowFaults>();
  const std::unique_ptr<Engine> engine = tests::start_engine(failing_engine(faults));
  const Rows rows(*engine);
  const std::vector<Request> requests = mixed_requests(11, 12);
  const std::vector<RequestResult> expected = run_alone(tests::small_engine(kModel), requests);
  // In the prompt, and among what is generated.
  for (const bool in_prompt : {true, false}) {
    for (size_t victim = 0; victim < 4; ++victim) {
      CAPTURE(in_prompt, victim);
      const Request& request = requests[victim];
      const std::vector<int32_t> ids = whole_text(request, expected[victim]);
      const size_t prompt = request.prompt_ids.size();
      const size_t at = in_prompt ? prompt / 2 : prompt + (ids.size() - prompt) / 2;
      if (at + 1 >= ids.size()) continue;
      const int64_t row = rows.read_only_at(ids, at);
      if (row < 0) continue;
      faults->fail(rows.layer(), row, RowFaults::kAlways);
      std::vector<std::shared_ptr<CollectingSink>> sinks;
      for (const Request& r : requests) sinks.push_back(tests::submit(*engine, r));
      for (size_t i = 0; i < requests.size(); ++i) {
        CAPTURE(i);
        const RequestResult result = sinks[i]->wait();
        const std::vector<int32_t> text = whole_text(requests[i], expected[i]);
        std::set<int64_t> needed;  // the last id is never computed
        for (size_t t = 0; t + 1 < text.size(); ++t) {
          const std::vector<int64_t> of = rows.of(text)[t];
          needed.insert(of.begin(), of.end());
        }
        if (!needed.contains(row)) {
          check_same({result}, {expected[i]});
          continue;
        }
        check_lost(result, expected[i]);
        CHECK_THAT(
            result.status.message(), Catch::Contains("layer " + std::to_string(rows.layer())) &&
                                         Catch::Contains("table checkpoint") &&
                                         Catch::Contains("row " + std::to_string(row)) &&
                                         Catch::Contains("torn off"));
        if (i == victim) CHECK(result.choices[0].ids.size() == (in_prompt ? 0 : at - prompt + 1));
      }
      CHECK(faults->failures(rows.layer(), row) >= 1);
      faults->heal();
      check_idle(*engine);
      // What failed can be tried again, and the cache holds nothing that was computed without it.
      check_same(tests::run_all(*engine, requests), expected);
    }
  }
  const EngineStats stats = engine->stats();
  CHECK(stats.layers.back().failed_tokens > 0);
  CHECK(stats.layers.front().failed_tokens == 0);
}

TEST_CASE("missing rows: the chunk that missed one is not kept in the cache", "[rows]") {
  auto faults = std::make_shared<RowFaults>();
  EngineOptions o = failing_engine(faults);
  o.max_num_batched_tokens = 32;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const Rows rows(*engine);
  std::mt19937_64 random(5);
  const Request request = tests::greedy_request("a", random_ids(random, 120), 8);
  const RequestResult expected = run_alone(tests::small_engine(kModel), {request})[0];
  int64_t row = -1;
  size_t at = 64;
  for (; at < 96 && row < 0; ++at) row = rows.read_only_at(request.prompt_ids, at);
  REQUIRE(row >= 0);
  faults->fail(rows.layer(), row, RowFaults::kAlways);
  check_lost(tests::submit(*engine, request)->wait(), expected);
  faults->heal();
  const RequestResult again = tests::submit(*engine, request)->wait();
  check_same({again}, {expected});
  CHECK(again.usage.cached_tokens == 64);
}

TEST_CASE("missing rows: rows fetched ahead are fetched once more with their step", "[rows]") {
  auto faults = std::make_shared<RowFaults>();
  EngineOptions o = failing_engine(faults);
  o.max_num_batched_tokens = 32;
  o.enable_prefix_caching = false;
  const std::unique_ptr<Engine> engine = tests::start_engine(o);
  const Rows rows(*engine);
  std::mt19937_64 random(6);
  const Request request = tests::greedy_request("a", random_ids(random, 100), 30);
  const RequestResult expected = run_alone(tests::small_engine(kModel), {request})[0];
  const std::vector<int32_t> ids = whole_text(request, expected);
  int64_t tried = 0;
  // The first chunk is fetched when its step is planned, all that follows ahead of its step.
  for (size_t at = 32; at + 1 < ids.size(); at += 7) {
    const int64_t row = rows.read_only_at(ids, at);
    if (row < 0) continue;
    CAPTURE(at, row);
    ++tried;
    faults->fail(rows.layer(), row, 1);
    check_same({tests::submit(*engine, request)->wait()}, {expected});
    CHECK(faults->failures(rows.layer(), row) == 1);
    faults->fail(rows.layer(), row, 2);
    check_lost(tests::submit(*engine, request)->wait(), expected);
    CHECK(faults->failures(rows.layer(), row) == 3);
  }
  CHECK(tried > 5);
  check_idle(*engine);
}

TEST_CASE("missing rows: a storm of failures leaves nobody with a wrong token", "[rows]") {
  for (const uint64_t seed : {21u, 22u, 23u}) {
    CAPTURE(seed);
    auto faults = std::make_shared<RowFaults>();
    EngineOptions o = failing_engine(faults);
    o.ngram_fetch = std::string(seed == 23 ? "sync" : "prefetch");
    o.kv_cache_bytes = 40 * 16 * 2048;  // preemption, too
    o.max_queued_requests = 100;
    const std::unique_ptr<Engine> engine = tests::start_engine(o);
    const Rows rows(*engine);
    const std::vector<Request> requests = mixed_requests(seed, 30);
    const std::vector<RequestResult> expected = run_alone(tests::small_engine(kModel), requests);
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < requests.size(); ++i) {
      const std::vector<int32_t> ids = whole_text(requests[i], expected[i]);
      const std::vector<int64_t> of = rows.of(ids)[random() % ids.size()];
      faults->fail(rows.layer(), of[random() % of.size()], 1 + static_cast<int>(random() % 3));
    }
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    for (const Request& r : requests) sinks.push_back(tests::submit(*engine, r));
    int64_t lost = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      const RequestResult result = sinks[i]->wait();
      if (result.status.ok()) {
        check_same({result}, {expected[i]});
      } else {
        ++lost;
        check_lost(result, expected[i]);
      }
    }
    CHECK(lost > 0);
    check_idle(*engine);
    faults->heal();
    check_same(tests::run_all(*engine, requests), expected);
  }
}

}  // namespace engram::engine

// Paged causal attention: against float64, and bit for bit against itself in other company.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "tests/support/op_rig.h"
#include "tests/support/sanitized.h"

namespace engram::testing {
namespace {

constexpr uint64_t kSeed = 271828;

// Dtypes of activations and of the cache.
struct Types {
  DType act;
  DType cache;
};
constexpr Types kF32{DType::kF32, DType::kF32};
constexpr Types kBf16{DType::kBf16, DType::kBf16};
constexpr Types kF32Bf16{DType::kF32, DType::kBf16};
constexpr Types kF32Fp8{DType::kF32, DType::kF8E4m3};
constexpr Types kBf16Fp8{DType::kBf16, DType::kF8E4m3};
constexpr Types kAllTypes[] = {kBf16, kF32Fp8, kF32, kF32Bf16, kBf16Fp8};

struct Heads {
  int64_t q;
  int64_t kv;
  int64_t width;
};

// Queries, keys and values of one whole sequence; the last two as the cache has them.
struct Sequence {
  Rows q;
  Rows k;
  Rows v;
};

Sequence random_sequence(
    std::mt19937_64& random, const Types& types, const Heads& heads, int64_t length) {
  const auto cached = [&] {
    const Rows x = random_rows(random, types.act, length, heads.kv * heads.width, 1.0);
    return as_cached(x, types.cache, heads.width);
  };
  Sequence s;
  s.q = random_rows(random, types.act, length, heads.q * heads.width, 1.5);
  s.k = cached();
  s.v = cached();
  return s;
}

// A part of a sequence in a step.
struct Piece {
  const Sequence* sequence;
  int64_t first;
  int64_t count;
};

// Runs one step. All keys up to the last position of a piece are in the cache, which otherwise
// holds NaN: whoever reads a slot that is not his sees it. Returns the outputs of each piece.
std::vector<std::vector<uint8_t>> run_bytes(
    const Backend& backend,
    const Types& types,
    const Heads& heads,
    int page_tokens,
    const std::vector<Piece>& pieces,
    std::vector<Rows>* values,
    float scale) {
  std::mt19937_64 random(kSeed);
  OpRig rig(backend);
  int64_t pages = 3;
  for (const Piece& p : pieces) pages += (p.first + p.count + page_tokens - 1) / page_tokens;
  const std::vector<int32_t> order = shuffled_pages(random, pages);
  Rows keys(pages * heads.kv * page_tokens, heads.width);
  for (double& v : keys.values) v = std::nan("");
  Rows vals = keys;
  TestBatch batch(page_tokens);
  int64_t tokens = 0;
  for (const Piece& p : pieces) tokens += p.count;
  Rows q(tokens, heads.q * heads.width);
  size_t next_page = 0;
  int64_t token = 0;
  for (const Piece& p : pieces) {
    const int64_t length = p.first + p.count;
    const size_t count = static_cast<size_t>((length + page_tokens - 1) / page_tokens);
    const std::vector<int32_t> own(
        order.begin() + static_cast<int64_t>(next_page),
        order.begin() + static_cast<int64_t>(next_page + count));
    next_page += count;
    batch.add(p.first, p.count, own);
    for (int64_t t = 0; t < length; ++t) {
      const int64_t page = own[static_cast<size_t>(t / page_tokens)];
      for (int64_t c = 0; c < heads.kv * heads.width; ++c) {
        const int64_t row = (page * heads.kv + c / heads.width) * page_tokens + t % page_tokens;
        keys.at(row, c % heads.width) = p.sequence->k.at(t, c);
        vals.at(row, c % heads.width) = p.sequence->v.at(t, c);
      }
    }
    for (int64_t t = 0; t < p.count; ++t, ++token) {
      for (int64_t c = 0; c < q.cols; ++c) q.at(token, c) = p.sequence->q.at(p.first + t, c);
    }
  }
  // The queries are a column range, as in a fused qkv.
  const View wide = rig.filled(types.act, tokens, q.cols + 24, 5.0);
  Rows padded(tokens, q.cols + 24);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < q.cols; ++c) padded.at(t, c) = q.at(t, c);
  }
  const View in = rig.put(padded, types.act).col_range(0, q.cols);
  const View out = wide.col_range(24, q.cols);
  const engine::KvLayer kv = rig.put_cache(keys, vals, types.cache, page_tokens, heads.kv);
  rig.ops().attention(rig.stream(), rig.put(batch), in, kv, scale, out);
  std::vector<std::vector<uint8_t>> result;
  token = 0;
  for (const Piece& p : pieces) {
    result.push_back(rig.bytes(out.row_range(token, p.count)));
    if (values != nullptr) values->push_back(rig.get(out.row_range(token, p.count)));
    token += p.count;
  }
  return result;
}

void check_against_reference(
    const Backend& backend,
    const Types& types,
    const Heads& heads,
    int page_tokens,
    const std::vector<Piece>& pieces) {
  CAPTURE(
      backend.name, backend.threads, backend.simd, memory::dtype_name(types.act),
      memory::dtype_name(types.cache), heads.q, heads.kv, heads.width, page_tokens);
  const float scale = 1.f / std::sqrt(static_cast<float>(heads.width));
  std::vector<Rows> values;
  run_bytes(backend, types, heads, page_tokens, pieces, &values, scale);
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& p = pieces[i];
    CAPTURE(i, p.first, p.count);
    const Rows expected = reference::attention(
        p.sequence->q.row_range(p.first, p.count), p.sequence->k, p.sequence->v, p.first, heads.kv,
        heads.width, scale);
    const double limit = types.act == DType::kF32 ? 1e-11 : 1.6e-5;
    CHECK(reference::nmse(values[i], expected) < limit);
  }
}

TEST_CASE("attention matches the float64 reference", "[ops]") {
  std::mt19937_64 random(kSeed);
  constexpr Heads kHeads[] = {{14, 2, 64}, {4, 4, 128}, {6, 1, 20}, {1, 1, 2}, {3, 1, 512}};
  for (const Backend& backend : backends()) {
    for (const Types& types : tests::cases(kAllTypes, 2)) {
      for (const Heads& heads : kHeads) {
        const Sequence a = random_sequence(random, types, heads, 100);
        const Sequence b = random_sequence(random, types, heads, 33);
        const Sequence c = random_sequence(random, types, heads, 1);
        const Sequence d = random_sequence(random, types, heads, 70);
        check_against_reference(
            backend, types, heads, 16, {{&a, 37, 63}, {&b, 32, 1}, {&c, 0, 1}, {&d, 0, 70}});
      }
    }
  }
}

// Backends whose kernels differ by shape and size; of the CPU, one.
std::vector<Backend> distinct_backends() {
  return {backends().front()};
}

// Sequences, each of them whole or continued after `history` tokens.
struct Step {
  std::vector<Sequence> sequences;
  std::vector<Piece> pieces;
};

Step random_step(
    std::mt19937_64& random,
    const Types& types,
    const Heads& heads,
    const std::vector<std::pair<int64_t, int64_t>>& history_and_count) {
  Step step;
  for (const auto& [history, count] : history_and_count) {
    step.sequences.push_back(random_sequence(random, types, heads, history + count));
  }
  for (size_t i = 0; i < history_and_count.size(); ++i) {
    const auto& [history, count] = history_and_count[i];
    step.pieces.push_back({&step.sequences[i], history, count});
  }
  return step;
}

TEST_CASE("attention takes chunks around the edges of tiles", "[ops]") {
  std::mt19937_64 random(kSeed);
  struct Case {
    Heads heads;
    int page_tokens;
  };
  const Case cases[] = {
      {{3, 3, 64}, 16}, {{2, 1, 128}, 5}, {{4, 1, 64}, 7}, {{7, 1, 64}, 16}, {{8, 2, 128}, 64}};
  for (const Backend& backend : distinct_backends()) {
    for (const Case& c : cases) {
      for (const Types& types : {kBf16, kBf16Fp8}) {
        const Step step = random_step(
            random, types, c.heads,
            {{0, 1}, {70, 15}, {0, 16}, {63, 17}, {0, 63}, {1, 64}, {64, 65}, {0, 130}, {130, 1}});
        check_against_reference(backend, types, c.heads, c.page_tokens, step.pieces);
      }
    }
  }
}

TEST_CASE("attention takes one chunk alone", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : distinct_backends()) {
    for (const int64_t count : {2, 16, 65}) {
      const Heads heads{4, 2, 64};
      for (const Types& types : {kBf16, kBf16Fp8}) {
        const Step step = random_step(random, types, heads, {{300, count}});
        check_against_reference(backend, types, heads, 16, step.pieces);
      }
    }
  }
}

// Few blocks, so that a GPU shares a sequence's keys among several.
TEST_CASE("attention of single tokens with long contexts", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : distinct_backends()) {
    for (const Types& types : tests::cases(kAllTypes, 2)) {
      for (const Heads& heads : {Heads{8, 1, 128}, Heads{20, 1, 64}, Heads{2, 2, 40}}) {
        const Step step = random_step(random, types, heads, {{2000, 1}, {63, 1}, {64, 1}, {0, 1}});
        check_against_reference(backend, types, heads, 16, step.pieces);
      }
    }
  }
}

// So many rows and heads that a GPU leaves all keys of a row to one block.
TEST_CASE("attention of many sequences of mixed lengths", "[ops]") {
  std::mt19937_64 random(kSeed);
  const Heads heads{17, 17, 64};
  for (const Backend& backend : distinct_backends()) {
    constexpr Types kTypes[] = {kBf16, kF32, kBf16Fp8};
    for (const Types& types : tests::cases(kTypes, 1)) {
      for (const bool decode_only : {true, false}) {
        std::vector<std::pair<int64_t, int64_t>> lengths;
        for (int64_t i = 0; i < 64; ++i) {
          lengths.emplace_back(static_cast<int64_t>(random() % 12), 1);
        }
        lengths[20].first = 259;
        lengths[21].first = 128;
        if (!decode_only) lengths[33] = {250, 2};
        const Step step = random_step(random, types, heads, lengths);
        check_against_reference(backend, types, heads, 16, step.pieces);
      }
    }
  }
}

TEST_CASE("attention takes no tokens", "[ops]") {
  OpRig rig({"cpu", 2});
  const engine::KvLayer kv{nullptr, nullptr, DType::kF32, 16, 1, 8};
  const View q = rig.filled(DType::kF32, 0, 8, 0.0);
  rig.ops().attention(
      rig.stream(), rig.put(TestBatch(16)), q, kv, 1.f, rig.filled(DType::kF32, 0, 8, 0.0));
  CHECK(rig.bytes(q).empty());
}

std::vector<uint8_t> joined(const std::vector<std::vector<uint8_t>>& parts) {
  std::vector<uint8_t> all;
  for (const std::vector<uint8_t>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// The same prompt in one piece, in pieces, each token alone, among others, in pages of another
// size. Only the CPU promises this.
TEST_CASE("attention gives a token the same bits in any company", "[ops]") {
  std::mt19937_64 random(kSeed);
  for (const Backend& backend : backends()) {
    if (backend.name != "cpu") continue;
    for (const Heads& heads : {Heads{14, 2, 64}, Heads{3, 3, 40}, Heads{16, 1, 128}}) {
      const bool wide = heads.kv == 3 || backend.threads == 1;
      for (const Types& types : wide ? std::array{kF32, kF32Fp8} : std::array{kBf16, kBf16Fp8}) {
        CAPTURE(backend.simd, memory::dtype_name(types.act), memory::dtype_name(types.cache));
        CAPTURE(heads.q, heads.kv, heads.width);
        constexpr int64_t kLength = 70;
        constexpr float kScale = 0.2f;
        const Sequence a = random_sequence(random, types, heads, kLength);
        const Sequence other = random_sequence(random, types, heads, 50);
        const auto run = [&](int threads, int page_tokens, const std::vector<Piece>& pieces) {
          return run_bytes(
              {"cpu", threads, backend.simd}, types, heads, page_tokens, pieces, nullptr, kScale);
        };
        const std::vector<uint8_t> whole = run(1, 16, {{&a, 0, kLength}}).front();
        CHECK(run(3, 16, {{&a, 0, kLength}}).front() == whole);
        CHECK(run(2, 5, {{&a, 0, kLength}}).front() == whole);
        CHECK(run(2, 64, {{&other, 3, 40}, {&a, 0, kLength}, {&other, 49, 1}})[1] == whole);
        for (const int64_t chunk : {3, 32, 50}) {
          CAPTURE(chunk);
          std::vector<std::vector<uint8_t>> parts;
          for (int64_t first = 0; first < kLength; first += chunk) {
            const int64_t count = std::min(chunk, kLength - first);
            parts.push_back(run(2, 16, {{&other, 5, 2}, {&a, first, count}})[1]);
          }
          CHECK(joined(parts) == whole);
        }
        // All tokens of a decode step of their own, in one step.
        std::vector<Piece> singles;
        for (int64_t t = 0; t < kLength; ++t) singles.push_back({&a, t, 1});
        CHECK(joined(run(3, 16, singles)) == whole);
      }
    }
  }
}

TEST_CASE("attention gives the same bits again", "[ops]") {
  std::mt19937_64 random(kSeed);
  const Heads heads{4, 2, 64};
  for (const Backend& backend : distinct_backends()) {
    for (const Types& types : {kF32, kBf16, kBf16Fp8}) {
      const Step step = random_step(random, types, heads, {{900, 1}, {200, 20}, {0, 1}});
      const auto run = [&] {
        return joined(run_bytes(backend, types, heads, 16, step.pieces, nullptr, 0.125f));
      };
      CAPTURE(memory::dtype_name(types.act), memory::dtype_name(types.cache));
      CHECK(run() == run());
    }
  }
}

TEST_CASE("a token that is not a number spoils only those that see it", "[ops]") {
  std::mt19937_64 random(kSeed);
  const Heads heads{4, 2, 32};
  for (const Types& types : {kF32, kF32Bf16, kF32Fp8}) {
    CAPTURE(memory::dtype_name(types.cache));
    const Sequence good = random_sequence(random, types, heads, 60);
    Sequence bad = good;
    bad.k.at(41, 3) = std::nan("");
    bad.v.at(41, 3) = std::nan("");
    std::vector<Rows> a;
    std::vector<Rows> b;
    run_bytes({"cpu", 2}, types, heads, 16, {{&good, 0, 60}}, &a, 0.3f);
    run_bytes({"cpu", 2}, types, heads, 16, {{&bad, 0, 60}}, &b, 0.3f);
    CHECK(a[0].row_range(0, 41).values == b[0].row_range(0, 41).values);
    for (int64_t t = 41; t < 60; ++t) {
      CAPTURE(t);
      CHECK(std::isnan(b[0].at(t, 0)));  // through the weights: kv head 0
      CHECK(std::isnan(b[0].at(t, 3)));
    }
  }
}

}  // namespace
}  // namespace engram::testing

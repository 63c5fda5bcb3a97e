// Everything of a step that is not a linear layer, at the shapes of a 0.5B-parameter model (D =
// 896, Nq = 14, Nk = 2, Dh = 64, I = 4864, V = 151936; bf16 unless the name says otherwise):
// attention over prompts and single tokens, norms, gating, the Engram ops and sampling.
#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/bench/bench.h"
#include "tests/support/op_rig.h"

namespace engram::bench {
namespace {

using engine::ConvLayer;
using engine::KvLayer;
using engine::SampleResult;
using engine::SampleRow;
using memory::DType;
using memory::View;
using testing::OpRig;
using testing::Rows;
using testing::TestBatch;

constexpr int64_t kHeads = 14;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kHeadDim = 64;
constexpr int64_t kHidden = kHeads * kHeadDim;
constexpr int64_t kFeedForward = 4864;
constexpr int64_t kVocabulary = 151'936;
constexpr int kPageTokens = 16;
constexpr float kEps = 1e-6f;

class OpsBench {
 public:
  explicit OpsBench(Suite& suite)
      : suite_(suite), rig_({"cpu", suite.workers().threads()}, kVocabulary) {}

  void add_cases() {
    const bool smoke = suite_.options().smoke;
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      add_attention(dtype, 1, 0, smoke ? 40 : 512);
      if (!smoke) add_attention(dtype, 1, 1536, 512);
      for (const int64_t context : {512, 4096}) {
        add_attention(dtype, 1, context / (smoke ? 32 : 1) - 1, 1);
        add_attention(dtype, 8, context / (smoke ? 32 : 1) - 1, 1);
      }
    }
    // Against the same tokens over the cache of the activations' own dtype.
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      const int64_t first = (smoke ? 128 : 4096) - 1;
      add_attention(dtype, 1, first, 1, DType::kF8E4m3);
      add_attention(dtype, 8, first, 1, DType::kF8E4m3);
      add_attention(dtype, 1, 0, smoke ? 40 : 512, DType::kF8E4m3);
    }
    if (!smoke) {
      add_attention(DType::kBf16, 1, 32767, 1);
      add_attention(DType::kBf16, 1, 32767, 1, DType::kF8E4m3);
    }
    for (const int64_t tokens : {1, 8, smoke ? 16 : 512}) add_rows(tokens);
    for (const int64_t rows : {1, 8}) add_sampling(rows, smoke ? 1000 : kVocabulary);
  }

 private:
  View random(DType dtype, int64_t rows, int64_t cols, double scale) {
    return rig_.put(testing::random_rows(random_, dtype, rows, cols, scale), dtype);
  }

  void add(
      const std::string& name,
      int64_t bytes,
      int64_t flops,
      Peak peak,
      const std::function<uint64_t()>& hash,
      const std::function<void()>& enqueue,
      const std::string& against = "") {
    // Small work is repeated, as a step repeats it, so that the queue's start does not count.
    const int64_t repeats = std::clamp<int64_t>(4'000'000 / std::max<int64_t>(bytes, 1), 1, 64);
    suite_.add(
        {.name = name,
         .bytes = bytes * repeats,
         .flops = flops * repeats,
         .repeats = repeats,
         .peak = peak,
         .against = against,
         .run =
             [this, enqueue, repeats] {
               for (int64_t i = 0; i < repeats; ++i) enqueue();
               rig_.stream().synchronize();
             },
         .hash = hash});
  }

  std::function<uint64_t()> hash_of(View view) {
    return [this, view] {
      const std::vector<uint8_t> bits = rig_.bytes(view);
      return hash_bytes(bits.data(), std::ssize(bits));
    };
  }

  // `sequences` sequences compute `count` tokens each from position `first`.
  void add_attention(DType dtype, int64_t sequences, int64_t first, int64_t count) {
    add_attention(dtype, sequences, first, count, dtype);
  }

  void add_attention(DType dtype, int64_t sequences, int64_t first, int64_t count, DType cache) {
    const int64_t length = first + count;
    const int64_t pages = (length + kPageTokens - 1) / kPageTokens;
    const std::vector<int32_t> order = testing::shuffled_pages(random_, sequences * pages);
    TestBatch batch(kPageTokens);
    for (int64_t s = 0; s < sequences; ++s) {
      batch.add(first, count, {order.begin() + s * pages, order.begin() + (s + 1) * pages});
    }
    const int64_t cache_rows = sequences * pages * kKvHeads * kPageTokens;
    const Rows keys = testing::random_rows(random_, dtype, cache_rows, kHeadDim, 1.0);
    const Rows values = testing::random_rows(random_, dtype, cache_rows, kHeadDim, 1.0);
    const KvLayer kv = rig_.put_cache(keys, values, cache, kPageTokens, kKvHeads);
    const engine::Batch device_batch = rig_.put(batch);
    const View q = random(dtype, batch.tokens(), kHidden, 1.0);
    const View out = rig_.filled(dtype, batch.tokens(), kHidden, 0.0);
    // Two multiply-adds per element of every key a token sees.
    const int64_t seen = sequences * (count * first + count * (count + 1) / 2);
    const int64_t cache_bytes =
        2 * sequences * length * kKvHeads * engine::kv_head_bytes(cache, kHeadDim);
    const std::string name = std::string("attention ") + memory::dtype_name(dtype) +
                             " S=" + std::to_string(sequences) +
                             " tokens=" + std::to_string(count) + " from=" + std::to_string(first);
    const bool same = cache == dtype;
    const Peak peak = !same ? Peak::kCase : count > 1 ? Peak::kFma : Peak::kRead;
    add(
        same ? name : name + " cache=" + memory::dtype_name(cache), cache_bytes,
        4 * seen * kHeads * kHeadDim, peak, hash_of(out),
        [=, this] { rig_.ops().attention(rig_.stream(), device_batch, q, kv, 0.125f, out); },
        same ? "" : name);
  }

  void add_rows(int64_t tokens) {
    constexpr DType kAct = DType::kBf16;
    constexpr int64_t kBytes = 2;
    const std::string suffix = " T=" + std::to_string(tokens);
    const int64_t pages = tokens / kPageTokens + 1;
    TestBatch test_batch(kPageTokens);
    test_batch.add(0, tokens, testing::shuffled_pages(random_, pages));
    const engine::Batch batch = rig_.put(test_batch);
    const View weight = random(DType::kF32, 1, kHidden, 1.0);
    const View h = random(kAct, tokens, kHidden, 1.0);
    const View small = random(kAct, tokens, kHidden, 1e-6);
    const View y = rig_.filled(kAct, tokens, kHidden, 0.0);
    const int64_t row = tokens * kHidden * kBytes;
    add("add_rms_norm" + suffix, 4 * row, 0, Peak::kCopy, hash_of(y),
        [=, this] { rig_.ops().add_rms_norm(rig_.stream(), h, small, weight, kEps, y); });
    const View gate_up = random(kAct, tokens, 2 * kFeedForward, 1.0);
    const View gated = rig_.filled(kAct, tokens, kFeedForward, 0.0);
    add("silu_mul" + suffix, 3 * tokens * kFeedForward * kBytes, 0, Peak::kCopy, hash_of(gated),
        [=, this] { rig_.ops().silu_mul(rig_.stream(), gate_up, gated); });
    add_rope(batch, tokens, pages, suffix);
    const View fused = random(kAct, tokens, 2 * kHidden, 1.0);
    const View gates = rig_.filled(DType::kF32, tokens, 1, 0.0);
    const View u = rig_.filled(kAct, tokens, kHidden, 0.0);
    add("engram_gate" + suffix, 4 * row, 0, Peak::kCopy, hash_of(u), [=, this] {
      rig_.ops().engram_gate(
          rig_.stream(), fused.col_range(0, kHidden), fused.col_range(kHidden, kHidden), h, View(),
          weight, weight, kEps, gates, u);
    });
    const View inputs = rig_.filled(kAct, pages * kPageTokens, kHidden, 0.0);
    const View conv = random(DType::kF32, kHidden, 4, 0.01);
    const ConvLayer layer{inputs.data, kAct, kPageTokens, kHidden};
    add("short_conv" + suffix, 7 * row, 0, Peak::kCopy, hash_of(inputs), [=, this] {
      rig_.ops().short_conv(rig_.stream(), batch, small, weight, kEps, conv, 3, layer, h);
    });
  }

  void add_rope(
      const engine::Batch& batch, int64_t tokens, int64_t pages, const std::string& suffix) {
    constexpr DType kAct = DType::kBf16;
    const int64_t cols = (kHeads + 2 * kKvHeads) * kHeadDim;
    Rows frequencies(1, kHeadDim / 2);
    for (double& f : frequencies.values) f = 0.01;
    const View f64 = rig_.put(frequencies, DType::kF64);
    const View angles = rig_.filled(DType::kF32, tokens, kHeadDim, 0.0);
    add("rope_angles" + suffix, tokens * kHeadDim * 4, 0, Peak::kCopy, hash_of(angles),
        [=, this] { rig_.ops().rope_angles(rig_.stream(), batch, f64, 1.0, angles); });
    const View qkv = random(kAct, tokens, cols, 1.0);
    const View keys = rig_.filled(kAct, pages * kKvHeads * kPageTokens, kHeadDim, 0.0);
    const View values = rig_.filled(kAct, keys.rows, kHeadDim, 0.0);
    const KvLayer kv{keys.data, values.data, kAct, kPageTokens, kKvHeads, kHeadDim};
    add("rope_append" + suffix, 4 * tokens * cols, 0, Peak::kCopy, hash_of(values),
        [=, this] { rig_.ops().rope_append(rig_.stream(), batch, qkv, {}, {}, kEps, angles, kv); });
  }

  // Logits of a normal distribution: a flatter row than a trained model gives, so that the filters
  // have many candidates to weigh.
  void add_sampling(int64_t rows, int64_t vocab) {
    const View logits = random(DType::kF32, rows, vocab, 2.5);
    SampleRow greedy;
    greedy.temperature = 0.f;
    SampleRow best = greedy;
    best.logprobs = 5;
    SampleRow top_p;
    top_p.top_p = 0.9f;
    SampleRow top_k = top_p;
    top_k.top_k = 50;
    SampleRow min_p;
    min_p.min_p = 0.05f;
    SampleRow penalty;
    prompt_.assign(1000, 0);
    for (int32_t& id : prompt_) id = static_cast<int32_t>(random_() % static_cast<uint64_t>(vocab));
    penalty.repetition_penalty = 1.1f;
    penalty.prompt_ids = prompt_;
    const std::vector<std::pair<std::string, SampleRow>> kinds = {
        {"greedy", greedy},
        {"greedy, 5 log-probabilities", best},
        {"plain", SampleRow()},
        {"top_p 0.9", top_p},
        {"top_k 50, top_p 0.9", top_k},
        {"min_p 0.05", min_p},
        {"repetition penalty", penalty}};
    for (const auto& [name, how] : kinds) {
      sample_rows_.push_back(std::vector<SampleRow>(static_cast<size_t>(rows), how));
      results_.push_back(std::vector<SampleResult>(static_cast<size_t>(rows)));
      const size_t at = results_.size() - 1;
      add(
          "sample V=" + std::to_string(vocab) + " n=" + std::to_string(rows) + " " + name,
          4 * rows * vocab, 0, Peak::kRead,
          [=, this] {
            std::vector<int32_t> ids;
            for (const SampleResult& result : results_[at]) ids.push_back(result.id);
            return hash_bytes(ids.data(), 4 * std::ssize(ids));
          },
          [=, this] { rig_.ops().sample(rig_.stream(), logits, sample_rows_[at], results_[at]); });
    }
  }

  Suite& suite_;
  std::mt19937_64 random_{20240611};
  OpRig rig_;
  std::vector<int32_t> prompt_;
  std::vector<std::vector<SampleRow>> sample_rows_;
  std::vector<std::vector<SampleResult>> results_;
};

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  engram::bench::Suite suite(engram::bench::parse_options(argc, argv));
  engram::bench::OpsBench bench(suite);
  bench.add_cases();
  return suite.run();
}

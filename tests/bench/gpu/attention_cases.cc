#include <cmath>
#include <string>
#include <vector>

#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/suite.h"

namespace engram::bench::gpu {
namespace {

constexpr int64_t kHeads = 32;
constexpr int64_t kKvHeads = 8;
constexpr int64_t kHeadDim = 128;

struct Shape {
  int64_t sequences;
  int64_t first;  // position of the first token
  int64_t tokens;
  const char* prediction = "";
  DType cache = DType::kBf16;
};

// Ones.
uint8_t* scales(Rig& rig, int64_t count) {
  const std::vector<int32_t> ones(static_cast<size_t>(count + 3) / 4, 0x7f7f7f7f);
  return reinterpret_cast<uint8_t*>(const_cast<int32_t*>(rig.upload(ones)));
}

void add(Suite& suite, Rig& rig, const Shape& s) {
  const int64_t context = s.first + s.tokens;
  const int64_t pages = s.sequences * ((context + kPageTokens - 1) / kPageTokens);
  const View keys = rig.random(s.cache, pages * kKvHeads * kPageTokens, kHeadDim, 1.f);
  const View values = rig.random(s.cache, keys.rows, kHeadDim, 1.f);
  engine::KvLayer kv{
      .keys = keys.data,
      .values = values.data,
      .dtype = s.cache,
      .page_tokens = kPageTokens,
      .kv_heads = kKvHeads,
      .head_dim = kHeadDim};
  const bool fp8 = s.cache == DType::kF8E4m3;
  if (fp8) {
    kv.key_scales = scales(rig, keys.rows);
    kv.value_scales = scales(rig, keys.rows);
  }
  const engine::Batch batch = rig.batch(s.sequences, s.first, s.tokens);
  const View q = rig.random(DType::kBf16, batch.tokens, kHeads * kHeadDim, 1.f);
  const View out = rig.random(DType::kBf16, batch.tokens, kHeads * kHeadDim, 1.f);
  // Two multiply-adds per element of every key a token sees.
  const int64_t seen = s.sequences * (s.tokens * s.first + s.tokens * (s.tokens + 1) / 2);
  const float scale = 1.f / std::sqrt(static_cast<float>(kHeadDim));
  const std::string name =
      s.tokens == 1
          ? "decode, " + std::to_string(s.sequences) + " x context " + std::to_string(context)
          : "prompt, " + std::to_string(s.tokens) + " tokens from " + std::to_string(s.first);
  suite.add(
      {.name = name + (fp8 ? ", fp8 cache" : ""),
       .bytes = 2 * s.sequences * context * kKvHeads * engine::kv_head_bytes(s.cache, kHeadDim),
       .flops = 4 * seen * kHeads * kHeadDim,
       .limit = s.tokens == 1 ? Limit::kRead : Limit::kMultiply,
       .prediction = s.prediction,
       .enqueue = [=, &rig](int) { rig.ops().attention(rig.stream(), batch, q, kv, scale, out); }});
}

}  // namespace

void run_attention(Figures& figures, const Options& options) {
  Rig rig({.max_tokens = 8192, .max_cols = 8192, .max_rows = 8192, .max_context = 32768});
  Suite suite(rig, figures, options, "attention", {Limit::kRead, Limit::kMultiply});
  const char* half = "half the time of the bf16 cache when memory is the limit";
  const char* decoding = "1.1 to 1.4 times that of the bf16 cache: codes are made bf16 first";
  if (options.smoke) {
    for (const DType cache : {DType::kBf16, DType::kF8E4m3}) {
      add(suite, rig, {2, 40, 1, "", cache});
      add(suite, rig, {1, 0, 20, "", cache});
    }
  } else {
    add(suite, rig, {1, 1023, 1, "11 us, the least of FlashAttention and FlashInfer"});
    add(suite, rig, {1, 8191, 1});
    add(suite, rig, {1, 32767, 1});
    for (const int64_t sequences : {8, 64, 256}) {
      add(suite, rig, {sequences, 1023, 1, "0.85 to 0.90 of the read for a good kernel"});
    }
    add(suite, rig, {64, 4095, 1, "0.85 to 0.90 of the read for a good kernel"});
    add(suite, rig, {1, 0, 512});
    add(suite, rig, {1, 0, 2048});
    add(suite, rig,
        {1, 0, 8192, "600 to 700 TFLOP/s for the best; 60 to 65 % of the product for mma"});
    add(suite, rig, {1, 7680, 512});
    add(suite, rig, {1, 32767, 1, half, DType::kF8E4m3});
    add(suite, rig, {64, 1023, 1, half, DType::kF8E4m3});
    add(suite, rig, {64, 4095, 1, half, DType::kF8E4m3});
    add(suite, rig, {1, 0, 8192, decoding, DType::kF8E4m3});
  }
  suite.run();
}

}  // namespace engram::bench::gpu

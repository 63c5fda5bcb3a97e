// --kv-cache-dtype as clients see it: which values there are, and how many tokens a cache holds.
#include "memory/kv/kv_cache.h"

#include <catch2/catch.hpp>
#include <string>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/engine_client.h"
#include "tests/support/engine_load.h"

namespace engram::engine {
namespace {

using memory::DType;

EngineOptions options(const std::string& dtype, const std::string& cache) {
  EngineOptions o = tests::small_engine(tests::demo_directory());
  o.dtype = dtype;
  o.kv_cache_dtype = cache;
  return o;
}

std::string refusal(const EngineOptions& o) {
  const memory::Result<std::unique_ptr<Engine>> engine = make_engine(o);
  if (engine.ok()) return "";
  CHECK(engine.status().code() == memory::Code::kInvalidArgument);
  return engine.status().message();
}

}  // namespace

TEST_CASE("kv cache: pages count every byte", "[kv_cache]") {
  memory::KvShape shape{
      .layers = 3,
      .kv_heads = 2,
      .head_dim = 64,
      .conv_layers = 1,
      .conv_width = 100,
      .page_tokens = 16,
      .dtype = DType::kF32,
      .kv_dtype = DType::kF32};
  const int64_t conv = 16 * 100 * 4;  // in the dtype of the activations, whatever the cache's is
  const int64_t elements = 3 * 2 * 2 * 16 * 64;
  CHECK(shape.page_bytes() == 4 * elements + conv);
  shape.kv_dtype = DType::kBf16;
  CHECK(shape.page_bytes() == 2 * elements + conv);
  shape.kv_dtype = DType::kF8E4m3;
  CHECK(shape.page_bytes() == elements + elements / 64 + conv);

  const std::unique_ptr<memory::Device> device = memory::make_cpu_device(1);
  const memory::KvCache cache = memory::KvCache::make(*device, shape, 5).value();
  CHECK(cache.value_scales(2) - cache.key_scales(2) == 5 * shape.scale_bytes());
  CHECK(cache.key_scales(0) != cache.key_scales(1));
  shape.kv_dtype = DType::kF32;
  CHECK(memory::KvCache::make(*device, shape, 5).value().key_scales(0) == nullptr);
}

TEST_CASE("kv cache: fp8 holds twice the tokens of bfloat16", "[kv_cache]") {
  // Without the convolution of Engram layers, whose inputs keep their dtype, but for the scales.
  const auto pages = [](const std::string& model, const std::string& cache) {
    EngineOptions o = tests::small_engine(tests::checkpoint_directory(model));
    o.dtype = "bfloat16";
    o.kv_cache_dtype = cache;
    return static_cast<double>(tests::start_engine(o)->info().kv_pages);
  };
  const double ratio = pages("tiny-dense", "fp8") / pages("tiny-dense", "auto");
  CHECK(ratio > 1.85);
  CHECK(ratio < 2.0);
  CHECK(pages("tiny-dense", "fp8") == pages("tiny-dense", "fp8_e4m3"));
  CHECK(pages("tiny-dense", "auto") == pages("tiny-dense", "bfloat16"));
}

TEST_CASE("kv cache: what cannot be is refused", "[kv_cache]") {
  CHECK(refusal(options("auto", "int8")).find("--kv-cache-dtype") != std::string::npos);
  CHECK(refusal(options("auto", "int8")).find("fp8_e4m3") != std::string::npos);
  CHECK(refusal(options("bfloat16", "float32")).find("--dtype bfloat16") != std::string::npos);
}

TEST_CASE("kv cache: the demo model writes the same over fp8", "[kv_cache]") {
  for (const char* dtype : {"float32", "bfloat16"}) {
    CAPTURE(dtype);
    const auto complete = [&](const char* cache) {
      const std::unique_ptr<Engine> engine = tests::start_engine(options(dtype, cache));
      const std::vector<int32_t> prompt =
          engine->tokenizer().encode("The GNU General Public ", true);
      const tests::RequestResult result =
          tests::submit(*engine, tests::greedy_request("a", prompt, 6))->wait();
      CHECK(result.status.ok());
      return result.choices[0].text;
    };
    const std::string text = complete("fp8");
    CHECK(!text.empty());
    CHECK(text == complete("auto"));
  }
}

}  // namespace engram::engine

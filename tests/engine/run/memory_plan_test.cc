// The arithmetic of the start-up log.
#include "engine/run/memory_plan.h"

#include <catch2/catch.hpp>

namespace engram::engine {
namespace {

constexpr int64_t kMiB = 1 << 20;

MemoryRequest request() {
  return {
      .page_bytes = kMiB,
      .page_tokens = 16,
      .model_positions = 2048,
      .max_num_seqs = 4,
      .available_bytes = int64_t{1} << 34};
}

}  // namespace

TEST_CASE("memory plan: as much as can be used, if it is there", "[memory_plan]") {
  const MemoryPlan plan = plan_memory(request()).value();
  CHECK(plan.pages == 4 * 128);
  CHECK(plan.max_model_len == 2048);
  CHECK(plan.warning.empty());
}

TEST_CASE("memory plan: else a share of what is available", "[memory_plan]") {
  MemoryRequest r = request();
  r.available_bytes = 1200 * kMiB;
  CHECK(plan_memory(r).value().pages == 300);
  r.max_num_seqs = 1 << 14;
  r.available_bytes = int64_t{1} << 40;
  CHECK(plan_memory(r).value().pages == 4096);
}

TEST_CASE("memory plan: a small cache bounds the length, or warns", "[memory_plan]") {
  MemoryRequest r = request();
  r.kv_cache_bytes = 10 * kMiB + 5;
  const MemoryPlan chosen = plan_memory(r).value();
  CHECK(chosen.pages == 10);
  CHECK(chosen.max_model_len == 160);
  CHECK_FALSE(chosen.warning.empty());
  r.max_model_len = 1000;
  const MemoryPlan fixed = plan_memory(r).value();
  CHECK(fixed.max_model_len == 1000);
  CHECK_FALSE(fixed.warning.empty());
  r.max_model_len = 160;
  CHECK(plan_memory(r).value().warning.empty());
}

TEST_CASE("memory plan: what cannot be", "[memory_plan]") {
  MemoryRequest r = request();
  r.max_model_len = 2049;
  CHECK(plan_memory(r).status().code() == memory::Code::kInvalidArgument);
  r = request();
  r.kv_cache_bytes = kMiB - 1;
  CHECK(plan_memory(r).status().code() == memory::Code::kResourceExhausted);
  r.kv_cache_bytes = 0;
  r.available_bytes = kMiB;
  CHECK(plan_memory(r).status().code() == memory::Code::kResourceExhausted);
}

}  // namespace engram::engine

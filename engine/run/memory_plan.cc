#include "engine/run/memory_plan.h"

#include <algorithm>
#include <limits>

namespace engram::engine {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kLargestDefault = 4 * kGiB;

int64_t pages_for(int64_t tokens, int page_tokens) {
  return (tokens + page_tokens - 1) / page_tokens;
}

}  // namespace

memory::Result<MemoryPlan> plan_memory(const MemoryRequest& r) {
  if (r.max_model_len > r.model_positions) {
    return memory::invalid_argument(
        "max_model_len " + std::to_string(r.max_model_len) + " is beyond the model's " +
        std::to_string(r.model_positions) + " positions (max_position_embeddings)");
  }
  MemoryPlan plan;
  plan.max_model_len = r.max_model_len > 0 ? r.max_model_len : r.model_positions;
  const int64_t useful = r.max_num_seqs * pages_for(plan.max_model_len, r.page_tokens);
  // Slots are 32-bit numbers.
  const int64_t most = std::numeric_limits<int32_t>::max() / r.page_tokens - 1;
  if (r.kv_cache_bytes > 0) {
    plan.pages = std::min(r.kv_cache_bytes / r.page_bytes, most);
    plan.explanation = "as asked for";
  } else {
    const int64_t share = std::min(r.available_bytes / 4, kLargestDefault);
    plan.pages = std::min({share / r.page_bytes, useful, most});
    plan.explanation = plan.pages == useful
                           ? "enough for max_num_seqs sequences of max_model_len"
                           : "a quarter of the " + format_bytes(r.available_bytes) +
                                 " available, at most 4 GiB; --kv-cache-memory changes it";
  }
  if (plan.pages == 0) {
    return memory::resource_exhausted(
        "a cache page needs " + format_bytes(r.page_bytes) + ", there are " +
        format_bytes(r.kv_cache_bytes > 0 ? r.kv_cache_bytes : r.available_bytes / 4) +
        " for the cache (--kv-cache-memory)");
  }
  const int64_t capacity = plan.pages * r.page_tokens;
  if (capacity < plan.max_model_len) {
    if (r.max_model_len == 0) {
      plan.max_model_len = capacity;
      plan.warning = "max_model_len is " + std::to_string(capacity) + ", not the model's " +
                     std::to_string(r.model_positions) +
                     ": the cache holds no more; --kv-cache-memory makes it larger";
    } else {
      plan.warning = "the cache holds " + std::to_string(capacity) +
                     " tokens, less than max_model_len " + std::to_string(plan.max_model_len) +
                     ": longer requests will be refused; raise --kv-cache-memory";
    }
  }
  return plan;
}

}  // namespace engram::engine

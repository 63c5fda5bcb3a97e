// How many cache pages there will be, and how long a sequence may get: arithmetic only, so that
// what the start-up log prints can be tested.
#pragma once

#include <cstdint>
#include <string>

#include "memory/base/byte_text.h"
#include "memory/base/status.h"

namespace engram::engine {

struct MemoryRequest {
  int64_t page_bytes = 0;  // of one page, all layers
  int page_tokens = 16;
  int64_t model_positions = 0;  // max_position_embeddings
  int64_t max_model_len = 0;    // 0: chosen here
  int64_t max_num_seqs = 0;
  int64_t kv_cache_bytes = 0;   // 0: chosen here
  int64_t available_bytes = 0;  // with weights and tables already taken
};

struct MemoryPlan {
  int64_t pages = 0;
  int64_t max_model_len = 0;
  std::string explanation;  // how the cache's size came about
  std::string warning;      // empty: none
};

// kv_cache_bytes = 0 takes a quarter of what is available, at most 4 GiB, at most what
// max_num_seqs sequences of max_model_len tokens can use. max_model_len = 0 is the model's, or less
// when the cache cannot hold that. INVALID_ARGUMENT when max_model_len is beyond the model's;
// RESOURCE_EXHAUSTED when not a single page fits.
memory::Result<MemoryPlan> plan_memory(const MemoryRequest& request);

using memory::format_bytes;

}  // namespace engram::engine

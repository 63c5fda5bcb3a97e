// What a request may ask for, checked before anything is queued. Pure functions, any thread; the
// engine and the simulator share them, so both refuse the same requests with the same words.
#pragma once

#include <cstdint>

#include "engine/run/engine.h"
#include "memory/base/status.h"

namespace engram::engine {

struct RequestLimits {
  int64_t vocab_size = 0;
  int64_t max_model_len = 0;  // prompt and completion together
  int64_t kv_pages = 0;       // of the whole pool
  int page_tokens = 16;
};

// Upper bounds of lists and strings; every one is named in the message that refuses more.
inline constexpr int kMaxChoices = 128;
inline constexpr int32_t kMaxLogprobs = 20;
inline constexpr int64_t kMaxIdBytes = 256;
inline constexpr int64_t kMaxSaltBytes = 256;
inline constexpr int64_t kMaxStopStrings = 64;
inline constexpr int64_t kMaxStopBytes = 1024;
inline constexpr int64_t kMaxStopTokenIds = 1024;
inline constexpr int64_t kMaxLogitBias = 4096;

// INVALID_ARGUMENT names the field, FAILED_PRECONDITION a request that needs more cache pages than
// the pool has.
memory::Status validate_request(const Request& request, const RequestLimits& limits);

// Tokens one choice may generate: max_tokens, or less where the context ends. REQUIRES: valid.
int64_t generation_limit(const Request& request, int64_t max_model_len);

bool is_valid_utf8(const std::string& text);

}  // namespace engram::engine

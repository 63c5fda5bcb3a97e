// From a CompleteRequest to engine requests. Everything that the engine cannot see is checked here
// (the prompt's form, batch sizes, ids beyond 31 bits, names); the rest is the engine's own check.
// Pure functions, any thread.
#pragma once

#include <engram/v1/completions.pb.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/run/engine.h"
#include "server/error_details.h"
#include "server/reply_builder.h"

namespace engram::server {

inline constexpr int kMaxPrompts = 64;
inline constexpr int kMaxTotalChoices = 256;  // prompts times n
inline constexpr int64_t kMaxTextBytes = 4 << 20;
inline constexpr int64_t kMaxDetokenizeIds = 1 << 20;
inline constexpr size_t kMaxRequestIdBytes = 128;

// What a call asks for, before text is tokenized.
struct ReadRequest {
  engine::SamplingParams sampling;
  OutputSwitches switches;
  bool add_special_tokens = true;
  int64_t truncate_prompt_tokens = 0;  // 0: all
  bool bypass_prefix_cache = false;
  std::string cache_salt;
  int prompts = 0;
  int64_t text_bytes = 0;  // of all text prompts
};

// Bounds of everything in the message. Cheap: no text is tokenized.
CallError read_request(const v1::CompleteRequest& request, ReadRequest* out);

// The model's sampling defaults where the request leaves a field unset, and its limit of new
// tokens.
void apply_defaults(
    const v1::CompleteRequest& request,
    const engine::GenerationDefaults& defaults,
    engine::SamplingParams* sampling);

// The prompts' ids: tokenized, checked against 31 bits, truncated.
CallError read_prompts(
    const v1::CompleteRequest& request,
    const ReadRequest& read,
    const engine::Tokenizer& tokenizer,
    std::vector<std::vector<int32_t>>* prompts);

// 1 to 128 characters of [A-Za-z0-9._:-].
bool is_request_id(std::string_view id);

}  // namespace engram::server

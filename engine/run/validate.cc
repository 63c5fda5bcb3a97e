#include "engine/run/validate.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <string>

namespace engram::engine {
namespace {

using memory::Status;

template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <typename... Parts>
Status invalid(const Parts&... parts) {
  return memory::invalid_argument(text_of(parts...));
}

// Written so that a NaN fails too.
Status check_range(const char* field, float value, float low, float high) {
  if (value >= low && value <= high) return {};
  return invalid(field, " must be between ", low, " and ", high, ", got ", value);
}

Status check_range(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid(field, " must be between ", low, " and ", high, ", got ", value);
}

Status check_count(const char* field, size_t count, int64_t most) {
  if (static_cast<int64_t>(count) <= most) return {};
  return invalid(field, " may have at most ", most, " entries, got ", count);
}

Status check_id(const char* field, size_t index, int32_t id, int64_t vocab_size) {
  if (id >= 0 && id < vocab_size) return {};
  return invalid(
      field, "[", index, "] is ", id, ", outside the model's vocabulary of ", vocab_size, " ids");
}

Status check_numbers(const SamplingParams& s) {
  constexpr float kLargest = 3.0e38f;
  ENGRAM_RETURN_IF_ERROR(check_range("temperature", s.temperature, 0.f, 100.f));
  ENGRAM_RETURN_IF_ERROR(check_range("top_p", s.top_p, 0.f, 1.f));
  if (s.top_p == 0.f) return invalid("top_p must be above 0, got 0");
  ENGRAM_RETURN_IF_ERROR(check_range("min_p", s.min_p, 0.f, 1.f));
  ENGRAM_RETURN_IF_ERROR(check_range("repetition_penalty", s.repetition_penalty, 0.f, kLargest));
  if (s.repetition_penalty == 0.f) return invalid("repetition_penalty must be above 0, got 0");
  ENGRAM_RETURN_IF_ERROR(check_range("presence_penalty", s.presence_penalty, -2.f, 2.f));
  ENGRAM_RETURN_IF_ERROR(check_range("frequency_penalty", s.frequency_penalty, -2.f, 2.f));
  if (s.top_k < -1) return invalid("top_k must be 0 or -1 (off) or positive, got ", s.top_k);
  ENGRAM_RETURN_IF_ERROR(check_range("n", int64_t{s.n}, 1, kMaxChoices));
  ENGRAM_RETURN_IF_ERROR(check_range("logprobs", int64_t{s.logprobs}, -1, kMaxLogprobs));
  ENGRAM_RETURN_IF_ERROR(
      check_range("prompt_logprobs", int64_t{s.prompt_logprobs}, -1, kMaxLogprobs));
  if (s.max_tokens != -1 && s.max_tokens < 1) {
    return invalid("max_tokens must be positive, or -1 for no limit, got ", s.max_tokens);
  }
  if (s.min_tokens < 0) return invalid("min_tokens must not be negative, got ", s.min_tokens);
  if (s.max_tokens != -1 && s.min_tokens > s.max_tokens) {
    return invalid("min_tokens ", s.min_tokens, " is above max_tokens ", s.max_tokens);
  }
  return {};
}

Status check_lists(const SamplingParams& s, int64_t vocab_size) {
  ENGRAM_RETURN_IF_ERROR(check_count("logit_bias", s.logit_bias.size(), kMaxLogitBias));
  for (size_t i = 0; i < s.logit_bias.size(); ++i) {
    const auto& [id, bias] = s.logit_bias[i];
    ENGRAM_RETURN_IF_ERROR(check_id("logit_bias", i, id, vocab_size));
    // -infinity bans an id; a row of nothing else is then an error of that request alone.
    if (std::isnan(bias) || bias > 100.f) {
      return invalid("logit_bias of id ", id, " must be at most 100, got ", bias);
    }
  }
  ENGRAM_RETURN_IF_ERROR(check_count("stop_token_ids", s.stop_token_ids.size(), kMaxStopTokenIds));
  for (size_t i = 0; i < s.stop_token_ids.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(check_id("stop_token_ids", i, s.stop_token_ids[i], vocab_size));
  }
  ENGRAM_RETURN_IF_ERROR(check_count("stop", s.stop.size(), kMaxStopStrings));
  for (size_t i = 0; i < s.stop.size(); ++i) {
    const std::string& stop = s.stop[i];
    if (stop.empty()) return invalid("stop[", i, "] is empty");
    if (static_cast<int64_t>(stop.size()) > kMaxStopBytes) {
      return invalid("stop[", i, "] has ", stop.size(), " bytes, at most ", kMaxStopBytes);
    }
    if (!is_valid_utf8(stop)) return invalid("stop[", i, "] is not valid UTF-8");
  }
  return {};
}

Status check_prompt(const Request& request, const RequestLimits& limits) {
  const int64_t tokens = static_cast<int64_t>(request.prompt_ids.size());
  if (tokens == 0) return invalid("prompt is empty");
  if (tokens >= limits.max_model_len) {
    return invalid(
        "prompt of ", tokens, " tokens leaves no room for a completion: max_model_len is ",
        limits.max_model_len, "; shorten the prompt or raise --max-model-len");
  }
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    ENGRAM_RETURN_IF_ERROR(check_id("prompt", i, request.prompt_ids[i], limits.vocab_size));
  }
  return {};
}

Status check_pages(const Request& request, const RequestLimits& limits) {
  const int64_t prompt = static_cast<int64_t>(request.prompt_ids.size());
  const int64_t longest = prompt + generation_limit(request, limits.max_model_len);
  const int64_t pages = (longest + limits.page_tokens - 1) / limits.page_tokens;
  if (pages <= limits.kv_pages) return {};
  return memory::failed_precondition(text_of(
      "prompt of ", prompt, " tokens with up to ", longest - prompt, " generated needs ", pages,
      " cache pages of ", limits.page_tokens, " tokens, the pool has ", limits.kv_pages,
      "; lower max_tokens or raise --kv-cache-memory"));
}

}  // namespace

bool is_valid_utf8(const std::string& text) {
  const size_t size = text.size();
  for (size_t i = 0; i < size;) {
    const uint8_t lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xc2 ? 0
                          : lead < 0xe0 ? 2
                          : lead < 0xf0 ? 3
                          : lead < 0xf5 ? 4
                                        : 0;
    if (length == 0 || i + length > size) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<uint8_t>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    if (length > 2) {
      // Overlong forms, surrogates and values past U+10FFFF show in the second byte.
      const uint8_t second = static_cast<uint8_t>(text[i + 1]);
      if (lead == 0xe0 && second < 0xa0) return false;
      if (lead == 0xed && second > 0x9f) return false;
      if (lead == 0xf0 && second < 0x90) return false;
      if (lead == 0xf4 && second > 0x8f) return false;
    }
    i += length;
  }
  return true;
}

int64_t generation_limit(const Request& request, int64_t max_model_len) {
  const int64_t room = max_model_len - static_cast<int64_t>(request.prompt_ids.size());
  return request.sampling.max_tokens < 0 ? room : std::min(room, request.sampling.max_tokens);
}

Status validate_request(const Request& request, const RequestLimits& limits) {
  ENGRAM_CHECK(request.sink != nullptr);
  if (request.id.empty()) return invalid("request_id is empty");
  if (static_cast<int64_t>(request.id.size()) > kMaxIdBytes) {
    return invalid("request_id has ", request.id.size(), " bytes, at most ", kMaxIdBytes);
  }
  if (static_cast<int64_t>(request.cache_salt.size()) > kMaxSaltBytes) {
    return invalid("cache_salt has ", request.cache_salt.size(), " bytes, at most ", kMaxSaltBytes);
  }
  ENGRAM_RETURN_IF_ERROR(check_numbers(request.sampling));
  ENGRAM_RETURN_IF_ERROR(check_lists(request.sampling, limits.vocab_size));
  ENGRAM_RETURN_IF_ERROR(check_prompt(request, limits));
  return check_pages(request, limits);
}

}  // namespace engram::engine

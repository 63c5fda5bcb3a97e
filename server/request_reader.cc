#include "server/request_reader.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/run/validate.h"

namespace engram::server {
namespace {

constexpr uint32_t kLargestId = std::numeric_limits<int32_t>::max();

CallError invalid(const std::string& field, const std::string& what) {
  return {memory::invalid_argument(field + " " + what), field};
}

std::string indexed(const std::string& field, size_t index) {
  return field + "[" + std::to_string(index) + "]";
}

std::string at_most(int64_t most, int64_t found) {
  return "must be at most " + std::to_string(most) + ", got " + std::to_string(found);
}

CallError read_ids(
    const google::protobuf::RepeatedField<uint32_t>& ids,
    const std::string& field,
    std::vector<int32_t>* out) {
  out->reserve(static_cast<size_t>(ids.size()));
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] > kLargestId) {
      return invalid(indexed(field, static_cast<size_t>(i)), at_most(kLargestId, ids[i]));
    }
    out->push_back(static_cast<int32_t>(ids[i]));
  }
  return {};
}

CallError read_sampling(const v1::CompleteRequest& request, engine::SamplingParams* out) {
  const v1::SamplingOptions& sampling = request.sampling();
  if (sampling.has_n()) {
    if (sampling.n() < 1 || sampling.n() > engine::kMaxChoices) {
      return invalid(
          "sampling.n", "must be between 1 and " + std::to_string(engine::kMaxChoices) + ", got " +
                            std::to_string(sampling.n()));
    }
    out->n = static_cast<int>(sampling.n());
  }
  if (sampling.has_temperature()) out->temperature = sampling.temperature();
  if (sampling.has_top_p()) out->top_p = sampling.top_p();
  if (sampling.has_top_k()) out->top_k = sampling.top_k();
  if (sampling.has_min_p()) out->min_p = sampling.min_p();
  if (sampling.has_seed()) out->seed = sampling.seed();

  const v1::PenaltyOptions& penalties = request.penalties();
  if (penalties.has_repetition()) out->repetition_penalty = penalties.repetition();
  if (penalties.has_presence()) out->presence_penalty = penalties.presence();
  if (penalties.has_frequency()) out->frequency_penalty = penalties.frequency();
  if (static_cast<int64_t>(penalties.logit_bias_size()) > engine::kMaxLogitBias) {
    return invalid(
        "penalties.logit_bias", "may have at most " + std::to_string(engine::kMaxLogitBias) +
                                    " entries, got " + std::to_string(penalties.logit_bias_size()));
  }
  for (const auto& [id, bias] : penalties.logit_bias()) {
    if (id > kLargestId) return invalid("penalties.logit_bias", "key " + at_most(kLargestId, id));
    out->logit_bias.emplace_back(static_cast<int32_t>(id), bias);
  }
  std::sort(out->logit_bias.begin(), out->logit_bias.end());  // a map has no order
  return {};
}

CallError read_stopping(const v1::StoppingOptions& stopping, engine::SamplingParams* out) {
  if (stopping.has_max_tokens()) {
    if (stopping.max_tokens() == 0) return invalid("stopping.max_tokens", "must be at least 1");
    out->max_tokens = stopping.max_tokens();
  }
  if (stopping.has_min_tokens()) out->min_tokens = stopping.min_tokens();
  if (static_cast<int64_t>(stopping.stop_size()) > engine::kMaxStopStrings) {
    return invalid(
        "stopping.stop", "may have at most " + std::to_string(engine::kMaxStopStrings) +
                             " entries, got " + std::to_string(stopping.stop_size()));
  }
  out->stop.assign(stopping.stop().begin(), stopping.stop().end());
  if (static_cast<int64_t>(stopping.stop_token_ids_size()) > engine::kMaxStopTokenIds) {
    return invalid(
        "stopping.stop_token_ids", "may have at most " + std::to_string(engine::kMaxStopTokenIds) +
                                       " entries, got " +
                                       std::to_string(stopping.stop_token_ids_size()));
  }
  CallError error =
      read_ids(stopping.stop_token_ids(), "stopping.stop_token_ids", &out->stop_token_ids);
  if (!error.ok()) return error;
  if (stopping.has_ignore_eos()) out->ignore_eos = stopping.ignore_eos();
  if (stopping.has_include_stop_string()) {
    out->include_stop_str_in_output = stopping.include_stop_string();
  }
  return {};
}

CallError read_logprobs(const std::string& field, uint32_t wanted, int32_t* out) {
  if (wanted > static_cast<uint32_t>(engine::kMaxLogprobs)) {
    return invalid(field, at_most(engine::kMaxLogprobs, wanted));
  }
  *out = static_cast<int32_t>(wanted);
  return {};
}

CallError read_output(const v1::OutputOptions& output, ReadRequest* out) {
  if (output.has_text()) out->switches.text = output.text();
  if (output.has_token_ids()) out->switches.token_ids = output.token_ids();
  if (output.has_token_bytes()) out->switches.token_bytes = output.token_bytes();
  if (output.has_echo()) out->sampling.echo = output.echo();
  if (output.has_skip_special_tokens()) {
    out->sampling.skip_special_tokens = output.skip_special_tokens();
  }
  CallError error;
  if (output.has_logprobs()) {
    error = read_logprobs("output.logprobs", output.logprobs(), &out->sampling.logprobs);
  }
  if (error.ok() && output.has_prompt_logprobs()) {
    error = read_logprobs(
        "output.prompt_logprobs", output.prompt_logprobs(), &out->sampling.prompt_logprobs);
  }
  return error;
}

CallError check_text(const std::string& field, const std::string& text) {
  if (text.empty()) return invalid(field, "is empty");
  const int64_t bytes = static_cast<int64_t>(text.size());
  if (bytes > kMaxTextBytes) return invalid(field, "bytes " + at_most(kMaxTextBytes, bytes));
  return {};
}

CallError check_id_list(const std::string& field, const v1::TokenIds& ids) {
  if (ids.ids_size() == 0) return invalid(field, "is empty");
  return {};
}

CallError check_prompt_count(const std::string& field, int count) {
  if (count == 0) return invalid(field, "is empty");
  if (count > kMaxPrompts) return invalid(field, "entries " + at_most(kMaxPrompts, count));
  return {};
}

CallError check_prompts(const v1::CompleteRequest& request, ReadRequest* out) {
  CallError error;
  out->prompts = 1;
  switch (request.prompt_case()) {
    case v1::CompleteRequest::kText:
      out->text_bytes = static_cast<int64_t>(request.text().size());
      return check_text("text", request.text());
    case v1::CompleteRequest::kTokenIds:
      return check_id_list("token_ids", request.token_ids());
    case v1::CompleteRequest::kTexts:
      out->prompts = request.texts().texts_size();
      error = check_prompt_count("texts.texts", out->prompts);
      for (int i = 0; error.ok() && i < out->prompts; ++i) {
        const std::string& text = request.texts().texts(i);
        out->text_bytes += static_cast<int64_t>(text.size());
        error = check_text(indexed("texts.texts", static_cast<size_t>(i)), text);
      }
      return error;
    case v1::CompleteRequest::kTokenIdBatch:
      out->prompts = request.token_id_batch().prompts_size();
      error = check_prompt_count("token_id_batch.prompts", out->prompts);
      for (int i = 0; error.ok() && i < out->prompts; ++i) {
        error = check_id_list(
            indexed("token_id_batch.prompts", static_cast<size_t>(i)),
            request.token_id_batch().prompts(i));
      }
      return error;
    case v1::CompleteRequest::PROMPT_NOT_SET:
      break;
  }
  return invalid("prompt", "is required: text, token_ids, texts or token_id_batch");
}

}  // namespace

CallError read_request(const v1::CompleteRequest& request, ReadRequest* out) {
  CallError error = check_prompts(request, out);
  if (error.ok()) error = read_sampling(request, &out->sampling);
  if (error.ok()) error = read_stopping(request.stopping(), &out->sampling);
  if (error.ok()) error = read_output(request.output(), out);
  if (!error.ok()) return error;
  if (out->prompts * out->sampling.n > kMaxTotalChoices) {
    return invalid(
        "sampling.n",
        "times prompts " + at_most(kMaxTotalChoices, out->prompts * int64_t{out->sampling.n}));
  }
  if (request.has_add_special_tokens()) out->add_special_tokens = request.add_special_tokens();
  if (request.has_truncate_prompt_tokens()) {
    const uint32_t keep = request.truncate_prompt_tokens();
    if (keep < 1 || keep > kLargestId) {
      return invalid(
          "truncate_prompt_tokens",
          "must be between 1 and " + std::to_string(kLargestId) + ", got " + std::to_string(keep));
    }
    out->truncate_prompt_tokens = keep;
  }
  out->bypass_prefix_cache = request.cache().bypass_prefix_cache();
  out->cache_salt = request.cache().salt();
  if (request.has_request_id() && !is_request_id(request.request_id())) {
    return invalid("request_id", "must be 1 to 128 characters of [A-Za-z0-9._:-]");
  }
  return {};
}

void apply_defaults(
    const v1::CompleteRequest& request,
    const engine::GenerationDefaults& defaults,
    engine::SamplingParams* sampling) {
  const v1::SamplingOptions& given = request.sampling();
  if (!given.has_temperature()) sampling->temperature = static_cast<float>(defaults.temperature);
  if (!given.has_top_p()) sampling->top_p = static_cast<float>(defaults.top_p);
  if (!given.has_top_k()) sampling->top_k = static_cast<int32_t>(defaults.top_k);
  if (!given.has_min_p()) sampling->min_p = static_cast<float>(defaults.min_p);
  if (!request.penalties().has_repetition()) {
    sampling->repetition_penalty = static_cast<float>(defaults.repetition_penalty);
  }
  if (defaults.max_new_tokens == 0) return;
  const bool shorter = sampling->max_tokens >= 0 && sampling->max_tokens < defaults.max_new_tokens;
  if (!shorter) sampling->max_tokens = defaults.max_new_tokens;
}

CallError read_prompts(
    const v1::CompleteRequest& request,
    const ReadRequest& read,
    const engine::Tokenizer& tokenizer,
    std::vector<std::vector<int32_t>>* prompts) {
  CallError error;
  for (int i = 0; error.ok() && i < read.prompts; ++i) {
    const size_t index = static_cast<size_t>(i);
    std::vector<int32_t> ids;
    if (request.has_text()) {
      ids = tokenizer.encode(request.text(), read.add_special_tokens);
    } else if (request.has_texts()) {
      ids = tokenizer.encode(request.texts().texts(i), read.add_special_tokens);
    } else if (request.has_token_ids()) {
      error = read_ids(request.token_ids().ids(), "token_ids.ids", &ids);
    } else {
      const std::string field = indexed("token_id_batch.prompts", index) + ".ids";
      error = read_ids(request.token_id_batch().prompts(i).ids(), field, &ids);
    }
    const int64_t length = static_cast<int64_t>(ids.size());
    if (read.truncate_prompt_tokens > 0 && length > read.truncate_prompt_tokens) {
      ids.erase(ids.begin(), ids.begin() + (length - read.truncate_prompt_tokens));
    }
    prompts->push_back(std::move(ids));
  }
  return error;
}

bool is_request_id(std::string_view id) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == ':' || c == '-';
  };
  return !id.empty() && id.size() <= kMaxRequestIdBytes &&
         std::all_of(id.begin(), id.end(), allowed);
}

}  // namespace engram::server

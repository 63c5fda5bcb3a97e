#include "server/error_details.h"

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/support/error_details.h>
#include <grpcpp/support/status.h>

#include <string_view>

namespace engram::server {
namespace {

using memory::Code;

constexpr size_t kMostMessageBytes = 4096;

struct FieldPath {
  std::string_view name;  // as the engine spells it
  std::string_view path;
};

constexpr FieldPath kFields[] = {
    {"cache_salt", "cache.salt"},
    {"echo", "output.echo"},
    {"frequency_penalty", "penalties.frequency"},
    {"logit_bias", "penalties.logit_bias"},
    {"logprobs", "output.logprobs"},
    {"max_tokens", "stopping.max_tokens"},
    {"min_p", "sampling.min_p"},
    {"min_tokens", "stopping.min_tokens"},
    {"n", "sampling.n"},
    {"presence_penalty", "penalties.presence"},
    {"prompt", "prompt"},
    {"prompt_logprobs", "output.prompt_logprobs"},
    {"repetition_penalty", "penalties.repetition"},
    {"request_id", "request_id"},
    {"stop", "stopping.stop"},
    {"stop_token_ids", "stopping.stop_token_ids"},
    {"temperature", "sampling.temperature"},
    {"top_k", "sampling.top_k"},
    {"top_p", "sampling.top_p"},
};

void add_details(const CallError& error, google::rpc::Status* status) {
  const std::string& message = status->message();
  switch (error.status.code()) {
    case Code::kInvalidArgument: {
      google::rpc::BadRequest bad;
      auto* violation = bad.add_field_violations();
      violation->set_field(error.field.empty() ? field_of_message(message) : error.field);
      violation->set_description(message);
      status->add_details()->PackFrom(bad);
      return;
    }
    case Code::kResourceExhausted:
    case Code::kUnavailable: {
      google::rpc::RetryInfo retry;
      retry.mutable_retry_delay()->set_seconds(1);
      status->add_details()->PackFrom(retry);
      return;
    }
    case Code::kNotFound: {
      google::rpc::ResourceInfo resource;
      resource.set_resource_type("model");
      resource.set_description(message);
      status->add_details()->PackFrom(resource);
      return;
    }
    default: {
      google::rpc::ErrorInfo info;
      info.set_reason(memory::code_name(error.status.code()));
      info.set_domain("engramd");
      status->add_details()->PackFrom(info);
      return;
    }
  }
}

}  // namespace

std::string cut_text(const std::string& text, size_t bytes) {
  if (text.size() <= bytes) return text;
  size_t end = bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

std::string field_of_message(const std::string& message) {
  const size_t end = message.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
  const std::string_view name = std::string_view(message).substr(0, end);
  for (const FieldPath& field : kFields) {
    if (field.name != name) continue;
    std::string path(field.path);
    const size_t close = message.find(']');
    if (end != std::string::npos && message[end] == '[' && close != std::string::npos) {
      path += message.substr(end, close + 1 - end);
    }
    return path;
  }
  return "";
}

grpc::Status to_grpc(const CallError& error) {
  if (error.ok()) return {};
  google::rpc::Status status;
  status.set_code(static_cast<int>(error.status.code()));
  status.set_message(cut_text(error.status.message(), kMostMessageBytes));
  add_details(error, &status);
  grpc::Status result;
  if (!grpc::SetErrorDetails(status, &result).ok()) {
    return {grpc::StatusCode::INTERNAL, status.message()};
  }
  return result;
}

}  // namespace engram::server

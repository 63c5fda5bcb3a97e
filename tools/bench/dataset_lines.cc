#include "tools/bench/dataset_lines.h"

#include <limits>

#include "engine/model/json_fields.h"
#include "memory/io/json.h"

namespace engram::tools::bench {
namespace {

using engine::JsonFields;
using engine::Need;
using memory::invalid_argument;
using memory::Result;
using memory::Status;
using nlohmann::json;

constexpr double kMaxSeconds = 1e10;

Result<json> parse_object(std::string_view text, const std::string& where) {
  Result<json> value = memory::parse_json(text, where);
  if (value.ok() && !value.value().is_object()) {
    return invalid_argument(
        where + ": expected a JSON object, found " + memory::json_excerpt(value.value()));
  }
  return value;
}

}  // namespace

Result<CustomLine> parse_custom_line(std::string_view text, const std::string& where) {
  const Result<json> object = parse_object(text, where);
  if (!object.ok()) return object.status();
  JsonFields fields(object.value(), where + ": ");
  CustomLine line;
  if (fields.has("prompt_ids")) {
    fields.integers(
        "prompt_ids", Need::kRequired, false, 0, std::numeric_limits<uint32_t>::max(), &line.ids);
    if (line.ids.empty()) fields.reject("prompt_ids", "at least one id");
    if (fields.has("prompt")) fields.reject("prompt", "nothing beside prompt_ids");
  } else {
    fields.text("prompt", Need::kRequired, &line.prompt);
    if (fields.status().ok() && line.prompt.empty()) fields.reject("prompt", "text");
  }
  fields.integer("output_tokens", Need::kOptional, 1, kMaxLineTokens, &line.output_tokens);
  if (!fields.status().ok()) return fields.status();
  return line;
}

Result<TraceLine> parse_trace_line(std::string_view text, const std::string& where) {
  const Result<json> object = parse_object(text, where);
  if (!object.ok()) return object.status();
  JsonFields fields(object.value(), where + ": ");
  TraceLine line;
  if (fields.has("Timestamp")) {
    fields.number("Timestamp", Need::kRequired, 0, kMaxSeconds, &line.at_s);
    fields.integer("Request tokens", Need::kRequired, 1, kMaxLineTokens, &line.input_tokens);
    fields.integer("Response tokens", Need::kRequired, 0, kMaxLineTokens, &line.output_tokens);
  } else if (fields.has("timestamp")) {
    fields.number("timestamp", Need::kRequired, 0, 1000 * kMaxSeconds, &line.at_s);
    line.at_s /= 1000;
    fields.integer("input_length", Need::kRequired, 1, kMaxLineTokens, &line.input_tokens);
    fields.integer("output_length", Need::kRequired, 1, kMaxLineTokens, &line.output_tokens);
    fields.integers(
        "hash_ids", Need::kOptional, false, 0, std::numeric_limits<int64_t>::max(), &line.hash_ids);
  } else {
    return invalid_argument(
        where + ": expected \"timestamp\" (Mooncake, ms) or \"Timestamp\" (BurstGPT, s), found " +
        memory::json_excerpt(object.value()));
  }
  if (!fields.status().ok()) return fields.status();
  return line;
}

Result<Conversation> parse_conversation(std::string_view text, const std::string& where) {
  const Result<json> object = parse_object(text, where);
  if (!object.ok()) return object.status();
  JsonFields fields(object.value(), where + ": ");
  if (!fields.has("conversations")) {
    return invalid_argument(where + ": conversations is missing");
  }
  const json& turns = fields.at("conversations");
  if (!turns.is_array()) {
    fields.reject("conversations", "a list of turns");
    return fields.status();
  }
  Conversation conversation;
  if (turns.size() < 2) return conversation;
  for (size_t i = 0; i < 2; ++i) {
    const std::string turn = where + ": conversations[" + std::to_string(i) + "]";
    if (!turns[i].is_object()) {
      return invalid_argument(
          turn + " is " + memory::json_excerpt(turns[i]) + ", expected an object");
    }
    JsonFields turn_fields(turns[i], turn + ".");
    turn_fields.text(
        "value", Need::kRequired, i == 0 ? &conversation.prompt : &conversation.answer);
    if (!turn_fields.status().ok()) return turn_fields.status();
  }
  return conversation;
}

}  // namespace engram::tools::bench

#include "tools/bench/result_values.h"

#include <limits>

#include "tools/bench/number_text.h"

namespace engram::tools::bench {
namespace {

using engine::JsonCursor;
using memory::Status;
using nlohmann::json;

std::string leaf_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return exact_number(value.get<double>());
  if (!value.is_array()) return value.is_object() ? "{}" : value.dump();
  std::string text;
  for (const json& element : value) {
    text += text.empty() ? "" : ", ";
    text += element.is_structured() ? memory::json_excerpt(element) : leaf_text(element);
  }
  return text;
}

}  // namespace

Status read_number(const JsonCursor& at, std::optional<double>* out) {
  out->reset();
  if (at.is_null()) return {};
  if (!at.value().is_number()) return at.expected("a number or null");
  *out = at.value().get<double>();
  return {};
}

Status read_text(const JsonCursor& at, std::string* out) {
  return at.is_null() ? Status() : at.read(*out);
}

Status read_flag(const JsonCursor& at, bool* out) {
  return at.read_optional(*out);
}

Status read_numbers(const JsonCursor& at, std::vector<double>* out) {
  out->clear();
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_array());
  out->reserve(at.size());
  // The path of an element is made only for a message: lists hold millions.
  for (size_t i = 0; i < at.size(); ++i) {
    const json& value = at.value()[i];
    if (!value.is_number() && !value.is_null()) return at.at(i).expected("a number or null");
    out->push_back(
        value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>());
  }
  return {};
}

Status read_list(const JsonCursor& at, const ReadElement& read) {
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_array());
  for (size_t i = 0; i < at.size(); ++i) ENGRAM_RETURN_IF_ERROR(read(at.at(i)));
  return {};
}

Status read_members(const JsonCursor& at, const ReadMember& read) {
  if (at.is_null()) return {};
  ENGRAM_RETURN_IF_ERROR(at.expect_object());
  for (const auto& [name, value] : at.value().items()) {
    ENGRAM_RETURN_IF_ERROR(read(name, at[name]));
  }
  return {};
}

void add_settings(const std::string& name, const json& value, std::vector<Setting>* out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [member, below] : value.items()) {
      add_settings(name + "." + member, below, out);
    }
    return;
  }
  out->push_back({name, leaf_text(value)});
}

void add_metrics(const std::string& name, const json& value, std::vector<Metric>* out) {
  if (value.is_number()) out->push_back({name, value.get<double>()});
  if (!value.is_object()) return;
  for (const auto& [member, below] : value.items()) add_metrics(name + "." + member, below, out);
}

}  // namespace engram::tools::bench

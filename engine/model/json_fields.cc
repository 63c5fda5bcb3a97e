#include "engine/model/json_fields.h"

#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

namespace engram::engine {
namespace {

using nlohmann::json;

bool in_range(const json& value, int64_t min, int64_t max, int64_t* out) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return false;
  }
  *out = value.get<int64_t>();
  return *out >= min && *out <= max;
}

std::string range_text(int64_t min, int64_t max) {
  return "from " + std::to_string(min) + " to " + std::to_string(max);
}

}  // namespace

void JsonFields::fail(memory::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

bool JsonFields::has(const char* name) const {
  const auto at = object_.find(name);
  return at != object_.end() && !at->is_null();
}

const json* JsonFields::find(const char* name, Need need) {
  const auto at = object_.find(name);
  if (at != object_.end() && !at->is_null()) return &*at;
  if (need == Need::kRequired) fail(memory::invalid_argument(where_ + name + " is missing"));
  return nullptr;
}

void JsonFields::reject(const char* name, const std::string& expected) {
  const auto at = object_.find(name);
  const std::string found = at == object_.end() ? "absent" : memory::json_excerpt(*at);
  fail(memory::invalid_argument(where_ + name + " is " + found + ", expected " + expected));
}

void JsonFields::refuse(const char* name, const std::string& served) {
  const auto at = object_.find(name);
  const std::string found = at == object_.end() ? "absent" : memory::json_excerpt(*at);
  fail(memory::unimplemented(where_ + name + " is " + found + ", this version serves " + served));
}

bool JsonFields::read_integer(const char* name, Need need, int64_t min, int64_t max, int64_t* out) {
  const json* value = find(name, need);
  if (value == nullptr) return false;
  if (in_range(*value, min, max, out)) return true;
  reject(name, "a whole number " + range_text(min, max));
  return false;
}

bool JsonFields::read_integers(
    const char* name, Need need, bool single, int64_t min, int64_t max, std::vector<int64_t>* out) {
  const json* value = find(name, need);
  if (value == nullptr) return false;
  int64_t one = 0;
  if (single && in_range(*value, min, max, &one)) {
    *out = {one};
    return true;
  }
  bool good = value->is_array();
  for (size_t i = 0; good && i < value->size(); ++i) {
    good = in_range((*value)[i], min, max, &one);
    out->push_back(one);
  }
  if (!good) {
    const std::string list = "a list of whole numbers " + range_text(min, max);
    reject(name, single ? "a whole number or " + list : list);
  }
  return good;
}

void JsonFields::number(const char* name, Need need, double min, double max, double* out) {
  const json* value = find(name, need);
  if (value == nullptr) return;
  const double found = value->is_number() ? value->get<double>() : std::nan("");
  if (found >= min && found <= max) {
    *out = found;
    return;
  }
  std::ostringstream expected;
  expected << "a number from " << min << " to " << max;
  reject(name, expected.str());
}

void JsonFields::boolean(const char* name, bool* out) {
  const json* value = find(name, Need::kOptional);
  if (value == nullptr) return;
  if (value->is_boolean()) {
    *out = value->get<bool>();
  } else {
    reject(name, "true or false");
  }
}

void JsonFields::text(const char* name, Need need, std::string* out) {
  const json* value = find(name, need);
  if (value == nullptr) return;
  if (value->is_string()) {
    *out = value->get<std::string>();
  } else {
    reject(name, "a string");
  }
}

}  // namespace engram::engine

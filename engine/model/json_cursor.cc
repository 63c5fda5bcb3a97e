#include "engine/model/json_cursor.h"

namespace engram::engine {

JsonCursor JsonCursor::operator[](const std::string& key) const {
  static const nlohmann::json kNull;
  const auto found = value_->find(key);
  const bool top = where_.back() == ' ';
  return {found == value_->end() ? kNull : *found, where_ + (top ? "" : ".") + key};
}

JsonCursor JsonCursor::at(size_t index) const {
  return {(*value_)[index], where_ + "[" + std::to_string(index) + "]"};
}

memory::Status JsonCursor::expected(const std::string& what) const {
  return memory::invalid_argument(
      where_ + ": expected " + what + ", found " + memory::json_excerpt(*value_));
}

memory::Status JsonCursor::unsupported(const std::string& what) const {
  return memory::unimplemented(where_ + ": " + what + " is not supported");
}

memory::Status JsonCursor::expect_object() const {
  return value_->is_object() ? memory::Status() : expected("an object");
}

memory::Status JsonCursor::expect_array() const {
  return value_->is_array() ? memory::Status() : expected("an array");
}

memory::Status JsonCursor::read_optional(bool& out) const {
  if (value_->is_null()) {
    return {};
  }
  if (!value_->is_boolean()) {
    return expected("true or false");
  }
  out = value_->get<bool>();
  return {};
}

memory::Status JsonCursor::read(std::string& out) const {
  if (!value_->is_string()) {
    return expected("a string");
  }
  out = value_->get_ref<const std::string&>();
  return {};
}

memory::Status JsonCursor::read(int64_t low, int64_t high, int32_t& out) const {
  const std::string range = "an integer in " + std::to_string(low) + ".." + std::to_string(high);
  if (!value_->is_number_integer()) {
    return expected(range);
  }
  const bool huge =
      value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  const int64_t number = huge ? INT64_MAX : value_->get<int64_t>();
  if (number < low || number > high) {
    return expected(range);
  }
  out = static_cast<int32_t>(number);
  return {};
}

}  // namespace engram::engine

#include "memory/io/json.h"

#include <utility>
#include <vector>

namespace engram::memory {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// Builds the value and stops at the first thing that is wrong.
class Builder : public nlohmann::json_sax<json> {
 public:
  bool null() override { return add(json(nullptr)); }
  bool boolean(bool value) override { return add(json(value)); }
  bool number_integer(number_integer_t value) override { return add(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(json(value)); }
  bool string(string_t& value) override { return add(json(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    key_ = std::move(value);
    if (!open_.back()->contains(key_)) return true;
    error_ = "duplicate key \"" + key_ + "\"";
    return false;
  }

  bool parse_error(
      std::size_t position,
      const std::string& /*last_token*/,
      const nlohmann::detail::exception& /*error*/) override {
    error_ = "not valid JSON at byte " + std::to_string(position);
    return false;
  }

  const std::string& error() const { return error_; }
  json take() { return std::move(root_); }

 private:
  json* place(json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool add(json&& value) {
    place(std::move(value));
    return true;
  }

  bool open(json&& value) {
    if (open_.size() == kMaxDepth) {
      error_ = "nested deeper than " + std::to_string(kMaxDepth) + " levels";
      return false;
    }
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json root_;
  // Objects and arrays not yet closed. A parent does not grow while a child is open, so the
  // pointers stay valid.
  std::vector<json*> open_;
  std::string key_;
  std::string error_;
};

}  // namespace

Result<json> parse_json(std::string_view text, const std::string& name) {
  // A zero byte is never JSON, but the parser would take it for the end of the text.
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return invalid_argument(name + ": not valid JSON at byte " + std::to_string(zero));
  }
  Builder builder;
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return invalid_argument(name + ": " + builder.error());
  }
  return builder.take();
}

std::string json_excerpt(const json& value) {
  constexpr size_t kMaxBytes = 60;
  // Large values are described, not printed: dump() of a whole config helps nobody.
  if (value.is_structured() && value.size() > 16) {
    return std::string(value.is_array() ? "a list of " : "an object of ") +
           std::to_string(value.size()) + " entries";
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kMaxBytes) text = text.substr(0, kMaxBytes) + "...";
  return text;
}

}  // namespace engram::memory

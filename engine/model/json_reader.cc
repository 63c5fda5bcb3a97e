#include "engine/model/json_reader.h"

#include <unordered_set>
#include <vector>

namespace engram::engine {
namespace {

constexpr size_t kMaxJsonBytes = size_t{256} << 20;
constexpr int kMaxDepth = 64;
constexpr size_t kMaxShown = 40;

// What the parser's callback notices, since the document itself keeps only the last of equal keys.
struct Watch {
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  std::string problem;

  bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (!problem.empty()) {
      return false;
    }
    if ((event == Event::object_start || event == Event::array_start) && depth >= kMaxDepth) {
      problem = "expected at most " + std::to_string(kMaxDepth) + " levels of nesting";
      return false;
    }
    if (event == Event::object_start) {
      keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        problem = "expected each key of an object once, found \"" + key + "\" twice";
        return false;
      }
    }
    return true;
  }
};

std::string shown(const nlohmann::json& value) {
  if (value.is_structured()) {
    return std::string(value.type_name()) + " of " + std::to_string(value.size());
  }
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxShown) {
    text = text.substr(0, kMaxShown) + "...";
  }
  return text;
}

}  // namespace

memory::Result<nlohmann::json> parse_json(const std::string& file, const std::string& text) {
  if (text.size() > kMaxJsonBytes) {
    return memory::invalid_argument(
        file + ": expected at most " + std::to_string(kMaxJsonBytes) + " bytes, found " +
        std::to_string(text.size()));
  }
  Watch watch;
  nlohmann::json document = nlohmann::json::parse(
      text,
      [&watch](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
        return watch(depth, event, parsed);
      },
      /*allow_exceptions=*/false);
  if (!watch.problem.empty()) {
    return memory::invalid_argument(file + ": " + watch.problem);
  }
  if (document.is_discarded()) {
    return memory::invalid_argument(file + ": expected JSON, found a syntax error");
  }
  return document;
}

JsonField JsonField::operator[](const char* key) const {
  static const nlohmann::json kNull;
  const auto found = value_->find(key);
  const bool top = where_.back() == ' ';
  return {found == value_->end() ? kNull : *found, where_ + (top ? "" : ".") + key};
}

JsonField JsonField::at(size_t index) const {
  return {(*value_)[index], where_ + "[" + std::to_string(index) + "]"};
}

memory::Status JsonField::expected(const std::string& what) const {
  return memory::invalid_argument(where_ + ": expected " + what + ", found " + shown(*value_));
}

memory::Status JsonField::expect_object() const {
  return value_->is_object() ? memory::Status() : expected("an object");
}

memory::Status JsonField::expect_array() const {
  return value_->is_array() ? memory::Status() : expected("an array");
}

memory::Status JsonField::read_optional(bool& out) const {
  if (value_->is_null()) {
    return {};
  }
  if (!value_->is_boolean()) {
    return expected("true or false");
  }
  out = value_->get<bool>();
  return {};
}

memory::Status JsonField::read(std::string& out) const {
  if (!value_->is_string()) {
    return expected("a string");
  }
  out = value_->get_ref<const std::string&>();
  return {};
}

memory::Status JsonField::read(int64_t low, int64_t high, int32_t& out) const {
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

// Reads JSON from untrusted files: every access is checked and every error names the file and the
// path of the field. Include in .cc files only (nlohmann is slow to compile).
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "memory/base/status.h"

namespace engram::engine {

// A document: size, nesting (64), duplicate keys and syntax are checked.
memory::Result<nlohmann::json> parse_json(const std::string& file, const std::string& text);

// A value and where it is: "tokenizer.json: model.vocab". Points into a document that outlives it.
class JsonField {
 public:
  JsonField(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  bool is_null() const { return value_->is_null(); }
  size_t size() const { return value_->size(); }

  // A member of an object; null if it is absent. This field must be an object.
  JsonField operator[](const char* key) const;
  // An element of an array; this field must be an array of more elements.
  JsonField at(size_t index) const;

  memory::Status expect_object() const;
  memory::Status expect_array() const;
  // absent or null leaves `out` as it is
  memory::Status read_optional(bool& out) const;
  memory::Status read(std::string& out) const;
  memory::Status read(int64_t low, int64_t high, int32_t& out) const;

  memory::Status expected(const std::string& what) const;  // "...: expected WHAT, found ..."

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace engram::engine

// A value inside a JSON document and the path that leads to it, for deep documents whose errors
// must say where they are. Points into a document that outlives it. Includes nlohmann-json: for
// .cc files only.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "memory/base/status.h"
#include "memory/io/json.h"

namespace engram::engine {

class JsonCursor {
 public:
  // where: "tokenizer.json: " for the document itself, "tokenizer.json: model.vocab" below it.
  JsonCursor(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& where() const { return where_; }
  bool is_null() const { return value_->is_null(); }
  size_t size() const { return value_->size(); }

  // A member; null if it is absent. REQUIRES: an object.
  JsonCursor operator[](const std::string& key) const;
  // An element. REQUIRES: an array with more than `index` elements.
  JsonCursor at(size_t index) const;

  memory::Status expect_object() const;
  memory::Status expect_array() const;
  // Absent or null leaves `out` as it is.
  memory::Status read_optional(bool& out) const;
  memory::Status read(std::string& out) const;
  memory::Status read(int64_t low, int64_t high, int32_t& out) const;

  // INVALID_ARGUMENT "WHERE: expected WHAT, found VALUE".
  memory::Status expected(const std::string& what) const;
  // UNIMPLEMENTED "WHERE: WHAT is not supported".
  memory::Status unsupported(const std::string& what) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

}  // namespace engram::engine

// Reads the fields of one JSON object into variables, remembering the first thing that is wrong.
// A field that is absent or null leaves its variable as it is, unless it is required. Includes
// nlohmann-json: for .cc files only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/json.h"

namespace engram::engine {

enum class Need { kOptional, kRequired };

class JsonFields {
 public:
  // `where` comes before the name of a field in messages: "config.json: ", "config.json: rope.".
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  bool has(const char* name) const;
  const nlohmann::json& at(const char* name) const { return object_.at(name); }  // REQUIRES: has

  // Whole numbers and numbers in [min, max].
  template <typename T>
  void integer(const char* name, Need need, int64_t min, int64_t max, T* out) {
    int64_t value = 0;
    if (read_integer(name, need, min, max, &value)) *out = static_cast<T>(value);
  }
  void number(const char* name, Need need, double min, double max, double* out);
  void boolean(const char* name, bool* out);
  void text(const char* name, Need need, std::string* out);
  // A list of whole numbers, or (where `single` allows it) one for a list of one.
  template <typename T>
  void integers(
      const char* name, Need need, bool single, int64_t min, int64_t max, std::vector<T>* out) {
    std::vector<int64_t> values;
    if (read_integers(name, need, single, min, max, &values))
      out->assign(values.begin(), values.end());
  }

  // The field's value cannot be: "FILE: NAME is VALUE, expected EXPECTED".
  void reject(const char* name, const std::string& expected);
  // The field's value is legal, but not served: UNIMPLEMENTED.
  void refuse(const char* name, const std::string& served);

  const memory::Status& status() const { return status_; }

 private:
  const nlohmann::json* find(const char* name, Need need);
  bool read_integer(const char* name, Need need, int64_t min, int64_t max, int64_t* out);
  bool read_integers(
      const char* name,
      Need need,
      bool single,
      int64_t min,
      int64_t max,
      std::vector<int64_t>* out);
  void fail(memory::Status status);

  const nlohmann::json& object_;
  std::string where_;
  memory::Status status_;
};

}  // namespace engram::engine

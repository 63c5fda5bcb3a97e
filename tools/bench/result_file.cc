#include "tools/bench/result_file.h"

#include <utility>

#include "memory/io/file.h"
#include "tools/bench/result_readers.h"
#include "tools/bench/result_values.h"

namespace engram::tools::bench {
namespace {

using engine::JsonCursor;
using memory::Result;
using memory::Status;
using nlohmann::json;

constexpr int64_t kMaxFileBytes = int64_t{2} << 30;
constexpr int64_t kSchema = 1;

// Walks JSON text far enough to know strings from the rest and how deep it is.
class Scanner {
 public:
  // Before the next character `c`; true while within a string.
  bool in_string() const { return in_string_; }
  int64_t depth() const { return depth_; }
  void step(char c) {
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      return;
    }
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if (c == '}' || c == ']') --depth_;
  }

 private:
  bool in_string_ = false;
  bool escaped_ = false;
  int64_t depth_ = 0;
};

// Python writes numbers that JSON does not have; they are read as null.
std::string without_python_numbers(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  Scanner scanner;
  for (size_t i = 0; i < text.size();) {
    size_t skipped = 0;
    if (!scanner.in_string()) {
      for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (text.substr(i, word.size()) == word) skipped = word.size();
      }
    }
    if (skipped > 0) {
      out += "null";
      i += skipped;
      continue;
    }
    scanner.step(text[i]);
    out += text[i++];
  }
  return out;
}

// The top-level objects or lists of the text: --append-result writes one after the other. What
// follows the last one stays with it, so that the parser complains of it.
std::vector<std::string_view> documents(std::string_view text) {
  std::vector<size_t> ends;
  Scanner scanner;
  for (size_t i = 0; i < text.size(); ++i) {
    const int64_t before = scanner.depth();
    scanner.step(text[i]);
    if (before == 1 && scanner.depth() == 0) ends.push_back(i + 1);
  }
  const bool blank_rest =
      !ends.empty() && text.find_first_not_of(" \t\r\n", ends.back()) == std::string_view::npos;
  if (!blank_rest && !ends.empty()) ends.back() = text.size();
  if (ends.empty()) ends.push_back(text.size());
  std::vector<std::string_view> parts;
  size_t from = 0;
  for (const size_t end : ends) {
    parts.push_back(text.substr(from, end - from));
    from = end;
  }
  return parts;
}

Status check_schema(const JsonCursor& root) {
  int32_t schema = 0;
  return root["x_schema"].read(kSchema, kSchema, schema);
}

Status read_one(const JsonCursor& root, const std::string& name, ResultSet* results) {
  if (!root.value().is_object()) {
    return memory::invalid_argument(
        name + ": expected a result, found " + memory::json_excerpt(root.value()));
  }
  const JsonCursor kind = root["x_kind"];
  const std::string expected =
      "\"serve\", \"overhead\" or \"paper\", or the keys of a result of `vllm bench serve`";
  std::string kind_name;
  if (kind.is_null()) {
    const bool of_vllm = !root["request_throughput"].is_null() && !root["duration"].is_null();
    if (!of_vllm) return kind.expected(expected);
    kind_name = "serve";
  } else {
    if (!kind.value().is_string()) return kind.expected(expected);
    kind_name = kind.value().get<std::string>();
    if (kind_name != "serve" && kind_name != "overhead" && kind_name != "paper") {
      return kind.expected(expected);
    }
    ENGRAM_RETURN_IF_ERROR(check_schema(root));
  }
  if (kind_name == "serve") {
    ServeResult result;
    ENGRAM_RETURN_IF_ERROR(read_serve_result(root, &result));
    result.file = name;
    results->serve.push_back(std::move(result));
    return {};
  }
  OverheadResult result;
  ENGRAM_RETURN_IF_ERROR(read_overhead_result(root, &result));
  result.file = name;
  result.kind = kind_name;
  results->overhead.push_back(std::move(result));
  return {};
}

}  // namespace

Status parse_results(std::string_view text, const std::string& name, ResultSet* results) {
  const std::string plain = without_python_numbers(text);
  const std::vector<std::string_view> parts = documents(plain);
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string where =
        parts.size() == 1 ? name : name + " (result " + std::to_string(i + 1) + ")";
    const Result<json> document = memory::parse_json(parts[i], where);
    if (!document.ok()) return document.status();
    const JsonCursor root(document.value(), where + ": ");
    if (!document.value().is_array()) {
      ENGRAM_RETURN_IF_ERROR(read_one(root, where, results));
      continue;
    }
    ENGRAM_RETURN_IF_ERROR(
        read_list(root, [&](const JsonCursor& at) { return read_one(at, where, results); }));
  }
  return {};
}

Status read_results(const std::string& path, ResultSet* results) {
  const Result<std::string> text = memory::read_text_file(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  return parse_results(text.value(), path, results);
}

}  // namespace engram::tools::bench
